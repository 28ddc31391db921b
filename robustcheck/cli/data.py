"""`robustcheck data`: the kinds of data there are, and what a data set holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from robustcheck.cli.options import load_data_from, loading_options

if TYPE_CHECKING:
    from rich.table import Table

_ROWS = 100


@click.group()
def data() -> None:
    """Show the kinds of data, and what a data set holds.

    Labelled images in classes, or range images of a LIDAR: classification only, so far.

    \b
    Examples:
      robustcheck data list
      robustcheck data show digits
    """


@data.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_kinds(as_json: bool) -> None:
    """List the kinds of data and how each is written.

    \b
    Examples:
      robustcheck data list
      robustcheck data list --json
    """
    from robustcheck.data.datasets import KINDS

    if as_json:
        rows = [
            {"kind": name, "grammar": kind.grammar, "example": kind.example, "about": kind.about}
            for name, kind in KINDS.items()
        ]
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("data", "example", "what it is")
    for kind in KINDS.values():
        table.add_row(kind.grammar, kind.example, kind.about)
    Console().print(table)


@data.command()
@click.argument("spec")
@loading_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(spec: str, as_json: bool, **params: Any) -> None:
    """Show the counts per split and class, shape, range, hash and notes of a data set.

    SPEC is digits, folder:PATH, npz:PATH or torchvision:NAME:ROOT; for a LIDAR lidar-scenes, clouds:[PART:]PATH or
    kitti:[PART:]PATH.

    \b
    Examples:
      robustcheck data show digits
      robustcheck data show folder:photos --resize 32x32 --max-samples 1000
      robustcheck data show torchvision:FashionMNIST:data --json
      robustcheck data show lidar-scenes
    """
    summary = load_data_from({**params, "data": spec}).summary()
    if as_json:
        click.echo(json.dumps(summary, indent=2, ensure_ascii=False))
        return
    from rich.console import Console

    # Names come from files: as plain text they can switch neither colours nor links on.
    console = Console(markup=False, highlight=False)
    channels, height, width = summary["shape"]
    low, high = summary["range"]
    console.print(f"{summary['name']}: {summary['source']}")
    span = f"{summary['dtype']}, {low:.4g} to {high:.4g}"
    if summary["modality"] == "range":
        console.print(f"ranges   {height}×{width} (beams×columns), range / 128 m and intensity / 255, {span}")
    else:
        console.print(f"images   {channels}×{height}×{width} (channels×height×width), {span}")
    console.print(f"chance   {summary['chance']:.4f}, the largest class's share of the test split")
    console.print(f"split    seed {summary['split_seed']}, test part {'fixed' if summary['fixed_test'] else 'drawn'}")
    console.print(f"sha256   {summary['sha256']}")
    for note in summary["notes"]:
        console.print(f"note     {note}")
    console.print(_counts(summary))


def _counts(summary: dict[str, Any]) -> Table:
    from rich.table import Table

    splits = summary["splits"]
    table = Table("class")
    for name in splits:
        table.add_column(name, justify="right")
    for label, name in enumerate(summary["classes"][:_ROWS]):
        table.add_row(name, *(str(split["per_class"][label]) for split in splits.values()))
    if len(summary["classes"]) > _ROWS:
        table.add_row(f"and {len(summary['classes']) - _ROWS} more (--json has all)")
    table.add_row("all", *(str(split["samples"]) for split in splits.values()))
    return table
