"""A verdict as JUnit XML: one test case a judgement, one suite a model, activation and sensor."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Literal
from xml.etree import ElementTree

from robustcheck.gate.sarif import message
from robustcheck.gate.verdict import Judgement, Verdict
from robustcheck.reporting.wording import plain

Status = Literal["passed", "failure", "error", "skipped"]

_STATUS: dict[str, Status] = {
    "pass": "passed",
    "fail": "failure",
    "error": "error",
    "missing": "skipped",
    "inconclusive": "skipped",
}
_NO_XML_CHARACTER = re.compile("[\ufffe\uffff]")


def to_junit(verdict: Verdict) -> str:
    """The document: `testsuites` with a suite for each model × activation × sensor, in the order of the judgements.

    What failed is a `failure`, what could not be finished an `error`; what the report does not say, and what is not
    decided, is `skipped`, with its sentence. An undecided check that counts as a fail or a pass is a failure or passed.
    Names come from files that others wrote: characters that XML 1.0 forbids (https://www.w3.org/TR/xml/#charsets) and
    control characters are replaced by U+FFFD.

    >>> from robustcheck.gate.verdict import Subject
    >>> subject = Subject("net", "net.onnx", "as is", "adc-4bit", "EP 0.5")
    >>> found = Judgement("accuracy", "accuracy@ep=0.5 >= 0.9", subject, "fail", 0.9, 0.8, 0.77, 0.83, "Too low.")
    >>> print(to_junit(Verdict("an audit", "0" * 64, 0.05, (found,))))  # doctest: +ELLIPSIS
    <?xml version="1.0" encoding="UTF-8"?>
    <testsuites name="robustcheck gate" tests="1" failures="1" errors="0" skipped="0">
      <testsuite name="net, as is, adc-4bit" tests="1" failures="1" errors="0" skipped="0">
        <properties>
          <property name="study" value="000...
          <property name="alpha" value="0.05" />
        </properties>
        <testcase classname="net, as is, adc-4bit" name="accuracy@ep=0.5 &gt;= 0.9 (EP 0.5)">
          <failure message="Too low." type="accuracy">Too low.</failure>
        </testcase>
      </testsuite>
    </testsuites>
    <BLANKLINE>
    """
    suites: dict[str, list[Judgement]] = {}
    for judgement in verdict.judgements:
        suites.setdefault(_suite_name(judgement), []).append(judgement)
    root = ElementTree.Element("testsuites", {"name": "robustcheck gate", **_counts(verdict, verdict.judgements)})
    for name, judgements in suites.items():
        suite = ElementTree.SubElement(root, "testsuite", {"name": name, **_counts(verdict, judgements)})
        properties = ElementTree.SubElement(suite, "properties")
        for key, value in (("study", _legal(verdict.study)), ("alpha", f"{verdict.alpha:g}")):
            ElementTree.SubElement(properties, "property", {"name": key, "value": value})
        for judgement in judgements:
            _add_case(suite, name, judgement, _status(verdict, judgement))
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _add_case(suite: ElementTree.Element, classname: str, judgement: Judgement, status: Status) -> None:
    point = f" ({judgement.subject.point})" if judgement.subject.point else ""
    case = ElementTree.SubElement(suite, "testcase", {"classname": classname, "name": _legal(judgement.check + point)})
    if status == "passed":
        outcome = ElementTree.SubElement(case, "system-out")
    else:
        outcome = ElementTree.SubElement(
            case, status, {"message": _legal(judgement.sentence), "type": _legal(judgement.rule)}
        )
    outcome.text = _legal(message(judgement))


def _suite_name(judgement: Judgement) -> str:
    subject = judgement.subject
    named = filter(None, (subject.model, subject.activation, subject.sensor))
    return _legal(", ".join(named)) or "report"


def _counts(verdict: Verdict, judgements: Iterable[Judgement]) -> dict[str, str]:
    found = Counter(_status(verdict, judgement) for judgement in judgements)
    return {
        "tests": str(found.total()),
        "failures": str(found["failure"]),
        "errors": str(found["error"]),
        "skipped": str(found["skipped"]),
    }


def _status(verdict: Verdict, judgement: Judgement) -> Status:
    counted_as = verdict.inconclusive if judgement.outcome == "inconclusive" else judgement.outcome
    return _STATUS[counted_as]


def _legal(text: str) -> str:
    return _NO_XML_CHARACTER.sub("\ufffd", plain(text))
