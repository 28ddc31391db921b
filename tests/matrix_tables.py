"""From the rows of `make matrix` to the tables of docs/onnx.md, and to what is wrong in a row."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

Row = dict[str, Any]

CHECKS: Final = ("loads", "sites", "agrees", "trainable", "identity", "swaps", "writes", "reloads")


def problems(stage: str, row: Row) -> list[str]:
    """What is wrong with our own part of a row; what other converters cannot do is no problem of ours."""
    if row.get("error"):
        return [row["error"]]
    if stage == "matrix" and "checks" in row:
        wrong = [f"{name}: {check['detail']}" for name, check in row["checks"].items() if not check["passed"]]
        return wrong + [f"{name}: not run" for name in CHECKS if name not in row["checks"]]
    if stage == "light":
        wrong = [f"{key}: {row[key]:.1e}" for key in ("stored", "random") if not row.get(key, 0) <= 1e-5]
        return wrong + ([] if row["sites"] == row["relus"] else [f"{row['sites']} sites for {row['relus']} Relu"])
    if stage == "architectures":
        wrong = [f"torch: {each}" for each in row["torch"]["problems"]]
        return wrong + [f"ONNX: {each}" for each in row["onnx"].get("problems", [])]
    if stage == "operators":
        return [f"{name}: {why[:200]}" for name, why in row["failed"].items()]
    return []


def matrix_part(rows: list[Row], versions: str) -> str:
    """The export matrix: a summary, then a line for each file."""
    made = [row for row in rows if "checks" in row]
    counts = [sum(row["checks"].get(name, {}).get("passed", False) for row in made) for name in CHECKS]
    lines = [
        f"{len(made)} files of {len(rows)} combinations, made with {versions}.",
        "",
        table(CHECKS, [[f"{count}/{len(made)}" for count in counts]]),
        "",
    ]
    body = []
    for row in rows:
        first = [row["network"], row["exporter"], f"{row['requested']} → {row.get('opset', '–')}"]
        if "checks" not in row:
            body.append([*first, f"the exporter cannot: {row.get('exporter cannot', row.get('error', ''))}", *[""] * 5])
            continue
        checks = row["checks"]
        body.append(
            [
                *first,
                *(cell(checks.get(name)) for name in ("sites", "agrees", "trainable", "identity", "swaps", "writes")),
            ]
        )
    heads = (
        "network",
        "exporter",
        "opset asked → got",
        "sites",
        "against ONNX Runtime",
        "weights",
        "identity swap",
        "GELU, trained, written",
        "graph diff",
    )
    return "\n".join([*lines, table(heads, body)])


def peers_part(rows: list[Row], versions: str) -> str:
    """The other converters on the same files: a summary, then a line for each file."""
    names = list(dict.fromkeys(name for row in rows for name in row.get("peers", {})))
    body, totals = [], {name: [0] * 6 for name in names}
    for row in rows:
        cells = []
        for name in names:
            result = row.get("peers", {}).get(name)
            cells.append(_peer_cell(result))
            for place, good in enumerate(_peer_marks(result)):
                totals[name][place] += good
        body.append([row.get("network", row["key"]), row.get("exporter", ""), str(row.get("requested", "")), *cells])
    heads = (
        "",
        "converts",
        "agrees to 1e-5",
        "all weights train",
        "every activation is a module",
        "its input is left unchanged",
    )
    summary = [[name, *(f"{count}/{len(rows)}" for count in totals[name][1:])] for name in names if totals[name][0]]
    absent = [name for name in names if not totals[name][0]]
    lines = [f"Made with {versions}.", "", table(heads, summary)]
    lines += [f"\n{name} was not installed." for name in absent]
    return "\n".join([*lines, "", table(("network", "exporter", "opset asked", *names), body)])


def _peer_marks(result: Row | None) -> tuple[bool, ...]:
    if result is None:
        return (False,) * 6
    difference, weights, activations = result["difference"], result["weights"], result["activations"]
    return (
        True,
        result["converts"],
        difference is not None and difference <= 1e-5,
        weights is not None and weights[0] == weights[1],
        activations is not None and activations[0] == activations[1],
        result["graph_unchanged"] is True,
    )


def _peer_cell(result: Row | None) -> str:
    if result is None:
        return "–"
    if not result["converts"]:
        return f"no: {_short(result['error'])}"
    ran = (
        f"{result['difference']:.0e}"
        if result["difference"] is not None
        else f"does not run: {_short(result['error'])}"
    )
    weights, activations = result["weights"], result["activations"]
    text = f"{ran}; weights {weights[0]}/{weights[1]}; activations {activations[0]}/{activations[1]}"
    return text + ("" if result["graph_unchanged"] else "; input changed")


def _short(error: str) -> str:
    """An error of onnx2torch's as "no Conv of version 22"; any other without the name of its class."""
    found = re.search(r"operation_type='(\w+)', version=(\d+)", error)
    return f"no {found[1]} of version {found[2]}" if found else error.partition(": ")[2] or error


def light_part(rows: list[Row], versions: str) -> str:
    """The nine architectures of the onnx package."""
    body = [
        [row["key"], row["error"], *[""] * 4]
        if "error" in row
        else [
            row["name"],
            str(row["opset"]),
            str(row["nodes"]),
            f"{row['sites']}/{row['relus']}",
            f"{row['stored']:.0e}",
            f"{row['random']:.0e}" if "random" in row else "–",
        ]
        for row in rows
    ]
    heads = (
        "architecture",
        "opset",
        "nodes",
        "sites",
        "against the stored output",
        "with random weights, against ONNX Runtime",
    )
    return f"Made with {versions}.\n\n" + table(heads, body)


def architectures_part(rows: list[Row], versions: str) -> str:
    """timm's and torchvision's architectures, in torch and as ONNX."""
    in_torch = sum(not problems("architectures", {**row, "onnx": {}}) for row in rows)
    written = [row for row in rows if "onnx" in row and "exporter cannot" not in row["onnx"]]
    as_onnx = sum(not row["onnx"].get("problems") for row in written)
    text = f"{in_torch} of {len(rows)} are right in torch; of the {len(written)} that the default exporter can write, "
    text += f"{as_onnx} are right as ONNX. Made with {versions}."
    body = []
    for row in rows:
        if "error" in row:
            body.append([row["key"], row["error"], *[""] * 4])
            continue
        ours, onnx = row["torch"], row["onnx"]
        kinds = ", ".join(ours.get("kinds", ()))
        state = "; ".join(ours["problems"]) or f"{ours['sites']} sites, {ours['calls']} calls"
        if "exporter cannot" in onnx:
            body.append([row["name"], kinds, state, f"the exporter cannot: {onnx['exporter cannot']}", "", ""])
        else:
            what = "; ".join(onnx["problems"]) or f"{onnx.get('sites')} sites"
            worst = f"{onnx['difference']:.0e}" if "difference" in onnx else ""
            body.append([row["name"], kinds, state, what, worst, f"{onnx.get('nodes', '')}"])
    heads = ("architecture", "activations", "torch", "ONNX", "against ONNX Runtime", "nodes")
    return f"{text}\n\n{table(heads, body)}"


def operators_part(rows: list[Row], versions: str) -> str:
    """ONNX's backend node tests, operator by operator."""
    passed = sum(row["passed"] for row in rows)
    body = [[row["key"], str(row["passed"]), _reasons(row)] for row in rows]
    return f"{passed} tests of {len(rows)} operators pass. Made with {versions}.\n\n" + table(
        ("operator", "tests passed", "left out"), body
    )


def _reasons(row: Row) -> str:
    left_out = [f"{count} ({reason})" for reason, count in row["left_out"].items()]
    return "; ".join([*([f"**{len(row['failed'])} fail**"] if row["failed"] else []), *left_out])


PARTS: Final[dict[str, Callable[[list[Row], str], str]]] = {
    "matrix": matrix_part,
    "peers": peers_part,
    "operators": operators_part,
    "light": light_part,
    "architectures": architectures_part,
}
"""What writes each part of the document."""


def cell(check: Row | None) -> str:
    """A check in a table: its figures, after what is wrong where it failed."""
    if check is None:
        return "not run"
    return check["detail"] if check["passed"] else f"**fails**: {check['detail']}"


def table(heads: tuple[str, ...], body: list[list[str]]) -> str:
    """A table in Markdown."""
    clean = [[each.replace("|", "\\|").replace("\n", " ") for each in row] for row in body]
    return "\n".join(f"| {' | '.join(row)} |" for row in [list(heads), ["---"] * len(heads), *clean])
