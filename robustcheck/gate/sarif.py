"""A verdict as SARIF 2.1.0, which code scanning shows beside the model's file."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from robustcheck.gate.verdict import Judgement, Verdict
from robustcheck.reporting.wording import plain

Level = Literal["error", "warning", "note"]

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


@dataclass(frozen=True)
class Rule:
    """A kind of check, as SARIF describes it; `id` never changes, nor is it given to another kind."""

    id: str
    name: str
    summary: str
    help: str


RULES: dict[str, Rule] = {
    "accuracy": Rule(
        "RC001",
        "MinimumAccuracy",
        "The accuracy at an operating point of the sensor is below what is asked for.",
        "Train under the sensor's noise, swap the activation (robustcheck recommend), or use a better sensor.",
    ),
    "area": Rule(
        "RC002",
        "MinimumArea",
        "The mean accuracy over the operating points is below what is asked for.",
        "Train under the sensor's noise, swap the activation (robustcheck recommend), or use a better sensor.",
    ),
    "drop": Rule(
        "RC003",
        "MaximumDrop",
        "The sensor costs more accuracy than is allowed.",
        "Train under the sensor's noise, swap the activation (robustcheck recommend), or use a better sensor.",
    ),
    "regression": Rule(
        "RC004",
        "NoRegression",
        "The accuracy is lower than in the baseline report, by more than is allowed.",
        "Look at what changed in model, data or training; where the loss is meant, update the baseline.",
    ),
    "samples": Rule(
        "RC005", "MinimumSamples", "The report rests on too few test samples.", "Test on more samples."
    ),
    "draws": Rule("RC006", "MinimumDraws", "The report rests on too few noise draws.", "Take more draws (--draws)."),
    "seeds": Rule(
        "RC007", "MinimumSeeds", "The report rests on too few trained networks.", "Train more networks (--seeds)."
    ),
}  # fmt: skip
"""What each kind of check is in SARIF, by `Judgement.rule`."""

_MODEL_FILES = (".onnx", ".pt2", ".toml")


def to_sarif(verdict: Verdict, settings: str | None = None) -> str:
    """The log as text: one run, all rules, and a result for each judgement that is not a pass.

    A result's location is the model's file, relative to the working folder. Where the model is no file there, it is
    the file that states the checks: GitHub refuses a whole log for one result that has a logical location alone.
    Fingerprints follow from check and subject, so that a result is the same alert in every run, whatever was measured.

    Args:
        verdict: what the gate decided.
        settings: path of the file that states the checks; None where no file does.

    >>> from robustcheck.gate.verdict import Subject
    >>> subject = Subject("net", "nets/net.onnx", "as is", "adc-4bit", "EP 0.5")
    >>> found = Judgement("accuracy", "accuracy@ep=0.5 >= 0.9", subject, "fail", 0.9, 0.8, 0.77, 0.83, "Too low.")
    >>> run, = json.loads(to_sarif(Verdict("an audit", "0" * 64, 0.05, (found,))))["runs"]
    >>> result, = run["results"]
    >>> result["ruleId"], result["level"], result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    ('RC001', 'error', 'nets/net.onnx')
    """
    results = [
        _result(judgement, found, settings)
        for judgement in verdict.judgements
        if (found := level(verdict, judgement)) is not None
    ]
    run = {
        "tool": {"driver": {"name": "robustcheck", "version": version("robustcheck"), "rules": _rules()}},
        "invocations": [{"executionSuccessful": verdict.exit_code != 3, "exitCode": verdict.exit_code}],
        "columnKind": "unicodeCodePoints",
        "results": results,
        "properties": {
            "title": plain(verdict.title),
            "study": plain(verdict.study),
            "alpha": verdict.alpha,
            "outcome": verdict.outcome,
        },
    }
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def level(verdict: Verdict, judgement: Judgement) -> Level | None:
    """How grave a judgement is for a pipeline; None for a pass.

    What stops it is an error. What is not decided is a warning, an error where it counts as a fail, and a note where
    it counts as a pass.

    >>> from robustcheck.gate.verdict import Subject
    >>> found = Judgement("draws", "draws >= 5", Subject(), "missing", 5, None, None, None, "No draws.")
    >>> level(Verdict("", "", 0.05, (found,)), found)
    'error'
    """
    if judgement.outcome == "pass":
        return None
    if judgement.outcome != "inconclusive":
        return "error"
    levels: dict[str, Level] = {"inconclusive": "warning", "fail": "error", "pass": "note"}
    return levels[verdict.inconclusive]


def message(judgement: Judgement) -> str:
    """Its sentence, and its remedy as another, in one line without control characters.

    >>> from robustcheck.gate.verdict import Subject
    >>> message(Judgement("draws", "draws >= 5", Subject(), "fail", 5, 3, None, None, "3 draws: fail.", "take more"))
    '3 draws: fail. Take more.'
    """
    remedy = judgement.remedy and f" {judgement.remedy[0].upper()}{judgement.remedy[1:].removesuffix('.')}."
    return plain(judgement.sentence + remedy)


def model_file(spec: str) -> str | None:
    """The model's file, relative to the working folder, with forward slashes; None for a model that is no file there.

    >>> model_file("./nets/net.onnx"), model_file("../net.onnx"), model_file("timm:vit_tiny_patch16_224")
    ('nets/net.onnx', None, None)
    """
    return _inside(spec) if Path(spec).suffix.lower() in _MODEL_FILES else None


def _inside(path: str) -> str | None:
    """The path from the repository's root, which in GitHub's jobs need not be the working folder."""
    relative = Path(os.path.relpath(plain(path), os.environ.get("GITHUB_WORKSPACE", ".")))
    return None if ".." in relative.parts else relative.as_posix()


def _result(judgement: Judgement, found: Level, settings: str | None) -> dict[str, Any]:
    subject = judgement.subject
    named = (subject.model, subject.activation, subject.sensor, subject.point)
    identity = hashlib.sha256(json.dumps([judgement.rule, judgement.check, *named]).encode()).hexdigest()
    location: dict[str, Any] = {}
    file = model_file(subject.spec) or (None if settings is None else _inside(settings))
    if file is not None:
        location["physicalLocation"] = {"artifactLocation": {"uri": quote(file), "uriBaseId": "%SRCROOT%"}}
    if subject.model:
        location["logicalLocations"] = [
            {"name": plain(subject.model), "fullyQualifiedName": plain("/".join(filter(None, named))), "kind": "module"}
        ]
    return {
        "ruleId": RULES[judgement.rule].id,
        "ruleIndex": list(RULES).index(judgement.rule),
        "level": found,
        "message": {"text": _escaped(message(judgement))},
        **({"locations": [location]} if location else {}),
        # GitHub reads no other name than the first.
        "partialFingerprints": {"primaryLocationLineHash": f"{identity[:16]}:1", "judgement/v1": identity},
        "properties": {
            "check": plain(judgement.check),
            "outcome": judgement.outcome,
            "threshold": judgement.threshold,
            "value": judgement.value,
            "lower": judgement.lower,
            "upper": judgement.upper,
        },
    }


def _rules() -> list[dict[str, Any]]:
    return [
        {
            "id": rule.id,
            "name": rule.name,
            "shortDescription": {"text": rule.summary},
            "fullDescription": {"text": rule.summary},
            "help": {"text": rule.help},
            "defaultConfiguration": {"level": "error"},
        }
        for rule in RULES.values()
    ]


def _escaped(text: str) -> str:
    """Text that no viewer takes for a placeholder or a link (SARIF 2.1.0, 3.11.5 and 3.11.6)."""
    return re.sub(r"([\\\[\]])", r"\\\1", text).replace("{", "{{").replace("}", "}}")
