"""Delivers the recommended model: trained anew from its cell, written in the form it came in, with a patch to read."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from robustcheck.networks.delivering import write_model
from robustcheck.networks.loading import Model
from robustcheck.networks.site import KnowsItsSites, Site
from robustcheck.networks.surgery import find_sites
from robustcheck.recommend.candidates import Target
from robustcheck.recommend.document import DeliveredModel, Recommendation
from robustcheck.reporting.markdown import escape
from robustcheck.study.cells import Cell
from robustcheck.study.runner import Outcome, train_cell
from robustcheck.study.store import Store


@dataclass(frozen=True)
class Delivery:
    """What was written, and the model that it holds."""

    delivered: DeliveredModel
    model: Model


def deliver(outcome: Outcome, store: Store, chosen: str, out: Path, target: Target) -> Delivery:
    """Train the best network of the chosen activation anew, and write it.

    Args:
        outcome: of a race.
        store: that holds its cells.
        chosen: activation; of its networks the one that is best on validation under noise is taken, the first of
            several.
        out: folder that exists.
        target: `onnx` also exports a model that came as a torch network.

    Raises:
        ModelError: the model cannot be written, or what was written computes something else.
    """
    loaded = outcome.loaded
    cells = [cell for cell in outcome.cells if cell.contestant.activation == chosen]
    records = {cell: store.training(loaded.hash(cell)) for cell in cells}
    best: Cell = max(cells, key=lambda cell: (records[cell].validation_accuracy or 0.0, -cell.seed))
    record = records[best]
    trained = train_cell(loaded, best)
    model = trained.model
    paths = [out / name for name in _file_names(loaded.models[0], chosen, target)]
    written = [write_model(model, path, loaded.data.shape) for path in paths]
    delivered = DeliveredModel(
        files=tuple(file.name for each in written for file in each.files),
        seed=best.seed,
        learning_rate=best.learning_rate or 0.0,
        validation_accuracy=trained.validation_accuracy,
        same_network=trained.validation_curve == record.validation_curve and trained.train_loss == record.train_loss,
        sha256=hashlib.sha256(written[0].files[0].read_bytes()).hexdigest(),
        checked="; ".join(each.checked for each in written),
    )
    return Delivery(delivered, model)


def remove_stale(out: Path, keep: Collection[str] = ()) -> None:
    """Delete the model and the patch that the folder's recommendation.json says were delivered.

    Args:
        out: folder of recommendations; only what lies in it is deleted.
        keep: names of the files that hold a new model.
    """
    try:
        old = Recommendation.model_validate_json((out / "recommendation.json").read_bytes()).delivered
    except (OSError, ValueError):
        return
    if old is None:
        return
    for name in {*old.files, "patch.md"} - set(keep):
        path = out / name
        if path.parent == out and path.name == name and path.is_file():
            path.unlink()


def _file_names(model: Model, chosen: str, target: Target) -> list[str]:
    """In the form that the model came in, and where a torch model is to run in ONNX Runtime, in that too."""
    stem = re.sub(r"[^A-Za-z0-9_]+", "-", f"{Path(model.origin).stem}-{chosen}").strip("-") or "model"
    if isinstance(model.network, KnowsItsSites):
        return [f"{stem}.onnx"]
    return [f"{stem}.toml", *([f"{stem}.onnx"] if target == "onnx" else [])]


def patch(before: Model, after: Model, command: str) -> str:
    """What the swap changes, as Markdown: each site with its old and new activation, parameters and graph nodes.

    >>> from robustcheck import load_model
    >>> from robustcheck.networks.saving import swapped_model
    >>> from robustcheck.networks.surgery import swap_activation
    >>> model = load_model("digits-convnet")
    >>> text = patch(model, swapped_model(model, swap_activation(model, "prelu")), "robustcheck recommend …")
    >>> print(text.splitlines()[4])
    | site | before | after | parameters added | graph nodes replaced |
    """
    old, new = find_sites(before.network), {site.path: site for site in find_sites(after.network)}
    added = _parameters(after) - _parameters(before)
    lines = [
        f"# {escape(f'{len(old)} activation site' + ('s' if len(old) != 1 else ''))} changed",
        "",
        f"In {escape(before.origin)}; all other nodes and layers stay, with fine-tuned weights.",
        "",
        "| site | before | after | parameters added | graph nodes replaced |",
        "| --- | --- | --- | ---: | --- |",
        *(_row(site, new[site.path].kind, _learned(after, site.path) - _learned(before, site.path)) for site in old),
        "",
        f"Parameters: {_parameters(before)} before, {_parameters(after)} after ({added:+d}).",
        "",
        "Made by:",
        "",
        f"    {command}",
    ]
    return "\n".join(lines) + "\n"


def _row(site: Site, after: str, added: int) -> str:
    cells: Sequence[str] = (site.path, site.kind, after, str(added), ", ".join(site.nodes) or "none")
    return f"| {' | '.join(map(escape, cells))} |"


def _parameters(model: Model) -> int:
    return sum(parameter.numel() for parameter in model.network.parameters())


def _learned(model: Model, path: str) -> int:
    """Parameters of the module at a site; 0 where a function of the code stands there."""
    module = dict(model.network.named_modules()).get(path)
    return 0 if module is None else sum(parameter.numel() for parameter in module.parameters())
