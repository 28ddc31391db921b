"""The program behind `make matrix`: runs every check of ONNX support and writes the tables of docs/onnx.md.

Each part of the document that it writes stands between two markers, `<!-- NAME -->` and `<!-- /NAME -->`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import matrix_tables as tables
import torch

ROOT: Final = Path(__file__).resolve().parent.parent
DOCUMENT: Final = ROOT / "docs" / "onnx.md"
LIMIT_S: Final = 300

Row = dict[str, Any]


def matrix_row(name: str, folder: str) -> Row:
    """All checks of one file of the export matrix."""
    import exports
    import onnx
    from export_matrix import Subject, checked

    combination = next(each for each in exports.COMBINATIONS if each.stem == name)
    row: Row = asdict(combination)
    try:
        path = exports.export(combination, Path(folder) / "files")
    except Exception as error:
        return row | {"exporter cannot": f"{type(error).__name__}: {str(error)[:300]}"}
    row["opset"] = exports.opset_of(onnx.load(path))
    written = Path(folder) / "written"
    written.mkdir(parents=True, exist_ok=True)
    return row | {"checks": {key: asdict(check) for key, check in checked(Subject(combination.network, path, written))}}


def light_row(name: str, folder: str) -> Row:
    """One of the nine architectures of the onnx package, as it ships and with random weights."""
    import light_models as light
    import numpy as np
    import onnx
    from exports import opset_of, relative, runtime

    from robustcheck.networks.loading import load_model
    from robustcheck.networks.surgery import find_sites

    path = light.light(name)
    proto = onnx.load(path)
    row: Row = {"name": name, "nodes": len(proto.graph.node), "opset": opset_of(proto)}
    model = load_model(str(path))
    with torch.no_grad():
        got = model.network.final_softmax(model.network(torch.from_numpy(light.ramp(name))))
    row["sites"] = len(find_sites(model))
    row["stored"] = relative(got, torch.from_numpy(np.array(light.stored_output(name))))
    row["relus"] = sum(node.op_type == "Relu" for node in proto.graph.node)
    if name in light.LARGE:
        return row
    filled = light.with_weights(name, Path(folder) / f"light-{name}.onnx")
    model = load_model(str(filled))
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        row["random"] = relative(model.network(x), runtime(filled, x))
    filled.unlink()
    return row


def architectures_row(name: str, folder: str) -> Row:
    """One architecture in torch, and through the default exporter."""
    import architectures
    from architecture_exports import exported

    row: Row = {"name": name}
    try:
        row["torch"] = asdict(architectures.check(name))
    except Exception as error:
        row["torch"] = {"problems": [f"{type(error).__name__}: {str(error)[:300]}"]}
    return row | {"onnx": exported(name, Path(folder) / "architectures")}


def matrix_names() -> list[str]:
    """The files of the export matrix."""
    import exports

    return [each.stem for each in exports.COMBINATIONS]


def light_names() -> list[str]:
    """The architectures that the onnx package ships."""
    import light_models

    return list(light_models.NAMES)


def architecture_names() -> list[str]:
    """The architectures of the sweep."""
    import architectures

    return list(architectures.ARCHITECTURES)


STAGES: Final[dict[str, tuple[Callable[[], list[str]], Callable[[str, str], Row]]]] = {
    "matrix": (matrix_names, matrix_row),
    "light": (light_names, light_row),
    "architectures": (architecture_names, architectures_row),
}
"""The stages whose rows are made one by one: what they are named, and how one is made."""


def guarded(make: Callable[[str, str], Row], name: str, folder: str) -> Row:
    """A row, or what was raised instead; at most LIMIT_S seconds."""

    def late(*_: object) -> None:
        raise TimeoutError(f"no result after {LIMIT_S} s")

    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT_S)
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            row = make(name, folder)
    except Exception as error:
        row = {"name": name, "error": f"{type(error).__name__}: {str(error)[:300]}"}
    finally:
        signal.alarm(0)
    return row | {"key": name, "seconds": round(time.perf_counter() - start, 1)}


def run_stage(stage: str, folder: Path, jobs: int, only: Iterable[str] | None = None) -> list[Row]:
    """All rows of a stage in their own order, made by several processes; each is told when it is done."""
    names, make = STAGES[stage]
    wanted = [name for name in names() if only is None or name in only]
    rows: dict[str, Row] = {}
    context = multiprocessing.get_context("spawn")
    # Exporters keep memory, so that processes are renewed now and then; the pool's own way of doing so can hang.
    for batch in (wanted[at : at + 12 * jobs] for at in range(0, len(wanted), 12 * jobs)):
        with ProcessPoolExecutor(jobs, mp_context=context) as pool:
            waiting = {pool.submit(guarded, make, name, str(folder)): name for name in batch}
            for done in as_completed(waiting):
                name = waiting[done]
                try:
                    rows[name] = done.result()
                except Exception as error:
                    rows[name] = {"key": name, "name": name, "error": f"{type(error).__name__}: {error}"}
                told = "; ".join(tables.problems(stage, rows[name])) or "well"
                seconds = rows[name].get("seconds", 0)
                print(f"{stage} {len(rows)}/{len(wanted)} {name} ({seconds} s): {told}", flush=True)
    return [rows[name] for name in wanted]


def run_peers(folder: Path) -> list[Row]:
    """One row for each file of the matrix: what each of the other converters makes of it."""
    import exports
    import peers

    made = [(each, exports.export(each, folder / "files")) for each in exports.COMBINATIONS]
    files = [(path, each.network) for each, path in made]
    rows: list[Row] = [asdict(each) | {"key": each.stem, "peers": {}} for each, _ in made]
    for peer in peers.CONVERTERS:
        for number, result in enumerate(peers.try_peer(peer, files)):
            rows[number]["peers"][peer] = None if result is None else asdict(result)
            told = "not installed" if result is None else result.error or "runs"
            print(f"{peer} {number + 1}/{len(files)} {rows[number]['key']}: {told}", flush=True)
    return rows


def run_operators() -> list[Row]:
    """One row for each operator: how many of ONNX's backend node tests pass, and what is left out, with the reason."""
    import onnx_node_cases

    rows: list[Row] = []
    for operator in sorted(onnx_node_cases.claimed()):
        outcome = onnx_node_cases.run_tests(operator)
        reasons = Counter(outcome.left_out.values())
        row = {"key": operator, "passed": len(outcome.passed), "failed": outcome.failed, "left_out": dict(reasons)}
        rows.append(row)
        for name, why in outcome.failed.items():
            print(f"operators {operator}: {name}: {why[:200]}", flush=True)
    return rows


def versions() -> str:
    """The packages that the tables were made with."""
    found = []
    for name in ("torch", "onnx", "onnxruntime", "onnxscript", "timm", "torchvision", "onnx2torch", "onnx2pytorch"):
        try:
            found.append(f"{name} {version(name).partition('+')[0]}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join(found)


def put(document: str, name: str, text: str) -> str:
    """The document with the text between the markers of a part; raises ValueError where they are not in it."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if start not in document or end not in document:
        raise ValueError(f"expected {start} and {end} in the document")
    before, _, rest = document.partition(start)
    return f"{before}{start}\n\n{text.strip()}\n\n{end}{rest.partition(end)[2]}"


def main() -> int:
    """Run the stages asked for and write their parts; 1 where anything of ours failed."""
    every = ["matrix", "peers", "operators", "light", "architectures"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=every, help="run this stage alone; may be given again")
    parser.add_argument("--name", action="append", help="of a stage, this row alone; writes nothing")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "matrix")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    failed: list[str] = []
    for stage in asked.only or every:
        start = time.perf_counter()
        rows = rows_of(stage, asked.folder, asked.jobs, asked.name)
        failed += [f"{stage} {row.get('key', '')}: {bad}" for row in rows for bad in tables.problems(stage, row)]
        print(f"{stage}: {len(rows)} rows in {time.perf_counter() - start:.0f} s", flush=True)
        if asked.name is None:
            results = asked.folder / f"{stage}.json"
            results.write_text(json.dumps({"versions": versions(), "rows": rows}, indent=1))
            write(asked.folder)
    print("\n".join(failed) if failed else "all well")
    return 1 if failed else 0


def rows_of(stage: str, folder: Path, jobs: int, only: Iterable[str] | None) -> list[Row]:
    """Run one stage."""
    if stage == "operators":
        return run_operators()
    return run_peers(folder) if stage == "peers" else run_stage(stage, folder, jobs, only)


def write(folder: Path) -> None:
    """Put all parts that there are results for into the document."""
    document = DOCUMENT.read_text(encoding="utf-8")
    found = {
        stage: json.loads(path.read_text()) for stage in tables.PARTS if (path := folder / f"{stage}.json").exists()
    }
    for stage, part in tables.PARTS.items():
        if stage in found:
            document = put(document, stage, part(found[stage]["rows"], found[stage]["versions"]))
    DOCUMENT.write_text(document, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
