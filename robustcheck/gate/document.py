"""A verdict as a versioned JSON document: all that it holds, and what the command ends with."""

from __future__ import annotations

import json
from dataclasses import asdict

from robustcheck.gate.verdict import Verdict

SCHEMA_VERSION = 1


def to_json(verdict: Verdict) -> str:
    r"""The document as text, ASCII alone: two-space indent, ends with a newline.

    Its fields are those of `Verdict`, `Judgement` and `Subject`, with `schema_version`, `kind` ("gate"), `outcome` and
    `exit_code`. Names are as they came in; what a terminal could take for a command is escaped, as JSON has it.

    >>> document = json.loads(to_json(Verdict("an audit", "0" * 64, 0.05, ())))
    >>> document["schema_version"], document["kind"], document["outcome"], document["exit_code"]
    (1, 'gate', 'pass', 0)
    """
    head = {
        "schema_version": SCHEMA_VERSION,
        "kind": "gate",
        "outcome": verdict.outcome,
        "exit_code": verdict.exit_code,
    }
    return json.dumps({**head, **asdict(verdict)}, indent=2, allow_nan=False) + "\n"
