"""`robustcheck models`: the shipped models, what is in a model, and training one from its recipe."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from robustcheck.cli.study_options import model_options
from robustcheck.cli.swap import swap


@click.group()
def models() -> None:
    """List, show and train models, and list the shipped studies.

    \b
    Examples:
      robustcheck models list
      robustcheck models show digits-convnet
      robustcheck models show "architecture:vit(depth=4)"
      robustcheck models studies
      robustcheck models train digits-convnet -o mine
    """


models.add_command(swap)


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(as_json: bool) -> None:
    """List the shipped models.

    \b
    Examples:
      robustcheck models list
      robustcheck models list --json
    """
    from robustcheck import content
    from robustcheck.networks.recipes import load_recipe

    recipes = [load_recipe(name) for name in content.model_names()]
    if as_json:
        click.echo(json.dumps([recipe.model_dump(mode="json") for recipe in recipes], indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("name", "title", "architecture", "data", "accuracy"):
        table.add_column(title, no_wrap=title == "name", justify="right" if title == "accuracy" else "left")
    for recipe in recipes:
        table.add_row(recipe.name, recipe.title, recipe.architecture, recipe.data, f"{recipe.accuracy:.3f}")
    Console().print(table)


@models.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def studies(name: str | None, as_json: bool) -> None:
    """List the shipped studies, or print the file of one; `robustcheck compare NAME` runs it.

    \b
    Examples:
      robustcheck models studies
      robustcheck models studies study-survey
      robustcheck models studies study-survey --json
    """
    from robustcheck import content
    from robustcheck.errors import UnknownNameError
    from robustcheck.study.plan import Study

    known = content.study_names()
    if name is not None and name not in known:
        raise UnknownNameError("study", name, known)
    texts = {each: (content.shelf("models") / f"{each}.toml").read_text(encoding="utf-8") for each in known}
    if as_json:
        chosen = known if name is None else [name]
        loaded = {each: Study.load(content.shelf("models") / f"{each}.toml").document() for each in chosen}
        click.echo(json.dumps(loaded, indent=2))
    elif name is not None:
        click.echo(texts[name], nl=False)
    else:
        width = max(map(len, known))
        for each, text in texts.items():
            click.echo(f"{each:{width}}  {text.partition(chr(10))[0].removeprefix('# ')}")


@models.command()
@click.argument("model")
@model_options
@click.option("--download", is_flag=True, help="Allow torchvision or timm to download weights.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(model: str, weights: str | None, classes: str | None, download: bool, as_json: bool, **given: Any) -> None:
    """Show a model: its input, its size, every activation site, and whether noise can be placed in its layers.

    \b
    Examples:
      robustcheck models show digits-convnet
      robustcheck models show torchvision:mobilenet_v3_small --json
      robustcheck models show net.onnx
      robustcheck models show my_package.net:build --weights net.safetensors
    """
    from robustcheck.networks.loading import load_model, read_class_names
    from robustcheck.networks.surgery import current_activation, find_sites
    from robustcheck.sensing.analog import uncovered_layers

    names = None if classes is None else read_class_names(classes)
    found = load_model(model, weights=weights, classes=names, download=download, **given)
    sites = find_sites(found.network)
    uncovered = uncovered_layers(found.network)
    facts = {
        "model": model,
        "sha256": found.sha256,
        "parameters": sum(parameter.numel() for parameter in found.network.parameters()),
        "input": found.input.as_dict(),
        "classes": found.classes,
        "activation": current_activation(sites),
        "sites": [
            {"path": s.path, "kind": s.kind, "found": s.found, "calls": s.calls, "nodes": s.nodes, "shape": s.shape}
            for s in sites
        ],
        "notes": found.notes,
        "placement_network_uncovered": uncovered,
    }
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # A pipe has no width of its own; names must not be cut for a guess of it.
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(Text(model, style="bold"))
    lines = Table(box=None, show_header=False, pad_edge=False)
    lines.add_row("parameters", f"{facts['parameters']:,}")
    for name, value in found.input.as_dict().items():
        lines.add_row("input " + name.replace("_", " "), Text(_readable(value)))
    lines.add_row("activation", str(facts["activation"] or "none found"))
    lines.add_row("noise in layers", "possible" if not uncovered else Text("not covered: " + "; ".join(uncovered)))
    console.print(lines)
    for each in found.notes:
        console.print(Text(f"• {each}"))
    console.print(f"sha256 {found.sha256}", soft_wrap=True, style="dim")
    console.print()
    table = Table(box=None, pad_edge=False, header_style="bold")
    on_graph = any(site.nodes for site in sites)
    titles = ("shape", "nodes") if on_graph else ("found as", "calls")
    for title in ("activation site", "kind", *titles):
        table.add_column(title, justify="right" if title == "calls" else "left", no_wrap=True, overflow="ellipsis")
    for site in sites:
        facts_of = (_shape(site.shape), _nodes(site.nodes)) if on_graph else (site.found, str(site.calls))
        table.add_row(Text(site.path), Text(site.kind), *map(Text, facts_of))
    console.print(table)


@models.command()
@click.argument("name")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default="robustcheck-models",
    show_default=True,
    help="Folder for NAME.toml and NAME.safetensors.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def train(name: str, out: Path, as_json: bool) -> None:
    """Train a shipped model anew from its recipe (NAME, or the path of a recipe of your own, ./NAME.toml).

    The same recipe gives the same weights, bit for bit, on one machine type and set of packages.

    \b
    Examples:
      robustcheck models train digits-convnet
      robustcheck models train ./mine.toml -o mine
    """
    from robustcheck.networks.recipes import load_recipe, read_recipe
    from robustcheck.study.recipes import train_recipe

    recipe = read_recipe(Path(name)) if name.endswith(".toml") else load_recipe(name)
    made = train_recipe(recipe, out)
    written = out / made.recipe.weights
    if as_json:
        click.echo(json.dumps({**made.recipe.model_dump(mode="json"), "unchanged": made.unchanged}, indent=2))
        return
    same = "the weights that the recipe names, bit for bit" if made.unchanged else "other weights than the recipe named"
    click.echo(
        f"accuracy {made.recipe.accuracy:.4f} on the test split; epoch {(made.trained.best_epoch or 0) + 1} kept"
    )
    click.echo(f"wrote {written} ({same}; sha256 {made.recipe.sha256[:16]}…) and {out / (made.recipe.name + '.toml')}")


def _readable(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_readable(part) for part in value)
    if isinstance(value, float):
        return f"{value:g}"
    return "the data's own" if value is None else str(value)


def _shape(shape: tuple[int | str | None, ...] | None) -> str:
    if shape is None:
        return "unknown"
    return " × ".join("?" if size is None or str(size).startswith("unk__") else str(size) for size in shape)


def _nodes(names: tuple[str, ...]) -> str:
    return names[-1] if len(names) == 1 else f"{names[-1]} and {len(names) - 1} before it"
