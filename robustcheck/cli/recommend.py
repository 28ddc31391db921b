"""`robustcheck recommend`: the activation to put into a model, why, and the swapped model as a file."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from robustcheck.cli.options import with_options
from robustcheck.cli.study_options import base_study, optimiser_options, out_folder, study_options
from robustcheck.errors import UsageError

if TYPE_CHECKING:
    from robustcheck.recommend.candidates import Candidates
    from robustcheck.recommend.document import Recommendation
    from robustcheck.recommend.race import Stop
    from robustcheck.study.plan import Study


def _race_options(command: Any) -> Any:
    return with_options(
        command,
        click.option(
            "--target",
            type=click.Choice(["onnx", "torch"]),
            help="What must run the model; onnx for an .onnx file, else torch, if not given.",
        ),
        click.option(
            "-a",
            "--activation",
            "activations",
            multiple=True,
            metavar="NAME",
            help="Candidate (repeatable); all elementwise ones if not given. The model's own always takes part.",
        ),
        click.option(
            "--seeds",
            type=click.IntRange(2),
            default=8,
            show_default=True,
            help="Trained networks of each candidate that goes all the way.",
        ),
        click.option(
            "--alpha",
            type=click.FloatRange(0, 0.5, min_open=True, max_open=True),
            default=0.05,
            show_default=True,
            help="Chance that the truly best candidate is stopped, over all looks.",
        ),
        click.option(
            "--train",
            type=click.Choice(["finetune", "scratch"]),
            default="finetune",
            show_default=True,
            help="Start from the weights given, or from new ones.",
        ),
        *optimiser_options(),
        click.option(
            "--lr",
            "rates",
            type=click.FloatRange(0, 10, min_open=True, max_open=True),
            multiple=True,
            help="Learning rate; several make the grid that is tried on validation, for each candidate alike. "
            "0.0003, 0.001, 0.003 if not given; 0.001, 0.003, 0.01 from scratch.",
        ),
        click.option(
            "--lr-epochs", type=click.IntRange(1), help="Epochs of these trials; a sixth of --epochs if not given."
        ),
    )


@click.command()
@click.argument("model")
@_race_options
@study_options("robustcheck-recommend")
def recommend(model: str, **params: Any) -> int:
    """Find the activation that MODEL should have behind this sensor, and write the model that has it.

    Candidates are fine-tuned under the sensor's noise, one network over all operating points, seed by seed; those that
    are already worse beyond doubt on validation stop. The answer is a winner, a tie (keep what you have) or a trade-off
    of accuracy and cost; the test set then estimates the gain, once. The folder gets the model in the form it came in,
    a patch to read, recommendation.md and .json, and the report of those that went all the way. The same command goes
    on where it was interrupted.

    \b
    Examples:
      robustcheck recommend digits-convnet --sensor adc-4bit --ep 0.5
      robustcheck recommend net.onnx --data folder:photos --sensor adc-3bit --ep 0.5 --ep 0.8 --seeds 12
      robustcheck recommend digits-convnet --ep 0.5 -a gelu -a silu -a prelu --epochs 10 -o swap
      robustcheck recommend my_package.net:build --weights net.safetensors --data npz:data.npz --target onnx
    """
    from robustcheck.cli.progress import progress_shown
    from robustcheck.recommend.produce import recommend as produce

    study = _study(model, params)
    params["out"] = out_folder(click.get_current_context(), params["out"], study)
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    tell = _Teller(params["quiet"])
    with progress_shown(params["quiet"]) as progress:
        made = produce(
            study,
            params["out"],
            named=params["activations"],
            target=params["target"],
            alpha=params["alpha"],
            jobs=params["jobs"],
            device=params["device"],
            download=params["download"],
            charts=params["charts"],
            command=shlex.join(["robustcheck", *sys.argv[1:]]),
            progress=progress,
            on_candidates=tell.candidates,
            on_look=tell.look,
        )
    if params["save_study"] is not None:
        params["save_study"].write_text(made.study.to_toml(), encoding="utf-8")
    if params["as_json"]:
        click.echo(made.recommendation.to_json(), nl=False)
        return 0
    _print(made.recommendation)
    click.echo("wrote " + ", ".join(str(path) for path in made.files if path.parent == params["out"]))
    if made.recommendation.delivered is not None:
        file = params["out"] / made.recommendation.delivered.files[0]
        click.echo(f"to audit it: {_audit_command(click.get_current_context(), study, file)}")
    return 0


def _audit_command(context: click.Context, study: Study, file: Path) -> str:
    """The command that audits a delivered file on the data, behind the sensor and at the points of this one."""
    from robustcheck.cli.audit import audit
    from robustcheck.networks.loading import spec_kind

    model = study.models[0].spec
    # The recipe of a network that a user's code makes does not import that code by itself.
    by_code = file.suffix == ".toml" and spec_kind(model)[0] == "factory"
    words = ["robustcheck", "audit", *([model, "--weights", str(file)] if by_code else [str(file)])]
    words += ["--data", study.data.spec]
    if context.params["range"] is None and context.params["train"] == "scratch":
        words += ["--range", "unit"]
    left_out = {"model", "weights", "data", "device", "jobs", "out", "charts", "save_study", "as_json", "quiet"}
    names = {parameter.name for parameter in audit.params} - left_out
    for parameter in context.command.params:
        typed = context.get_parameter_source(str(parameter.name)) is click.core.ParameterSource.COMMANDLINE
        if typed and parameter.name in names and isinstance(parameter, click.Option):
            words += _as_typed(parameter, context.params[parameter.name])
    return shlex.join(words)


def _as_typed(option: click.Option, value: Any) -> list[str]:
    """The words that give an option this value."""
    name = option.opts[-1]
    if option.is_flag:
        return [name]
    if isinstance(value, dict):
        return [word for key, each in value.items() for word in (name, f"{key}={each!r}")]
    if option.multiple:
        return [word for each in value for word in (name, str(each))]
    if isinstance(value, tuple):
        return [name, ("x" if option.name in ("resize", "crop") else ",").join(map(str, value))]
    return [name, str(value)]


def _study(model: str, params: dict[str, Any]) -> Study:
    """The study that the options state; its activations give way to the candidates."""
    from robustcheck.recommend.produce import tuning_epochs
    from robustcheck.study.plan import Study

    if len(params["sensors"]) > 1 or len(params["bits"]) + len(params["steps"]) > 1:
        raise UsageError("--sensor: expected one sensor at one resolution to choose for, got several; leave one")
    epochs = params["epochs"]
    training: dict[str, Any] = {
        "mode": params["train"],
        "train_ep": "mixed",
        "tuning_epochs": params["lr_epochs"] or tuning_epochs(epochs),
        **{key: params[key] for key in ("epochs", "batch_size", "optimizer")},
    }
    if params["rates"]:
        training["learning_rates"] = params["rates"]
    activations = params["activations"] or ("relu",)
    stated = base_study(params, model) | {"activations": activations, "training": training, "seeds": params["seeds"]}
    return Study.create(**stated)


class _Teller:
    """Says on standard error who takes part, and who stops."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet

    def candidates(self, found: Candidates) -> None:
        if self._quiet:
            return
        names = ", ".join(each for each in found.activations if each != found.current)
        self._say(f"candidates beside {found.current}: {names}")
        for each in found.left_out:
            self._say(f"not {each.activation}: {each.reason}")

    def look(self, seeds: int, stops: Sequence[Stop], running: Sequence[str]) -> None:
        if self._quiet:
            return
        from dataclasses import asdict

        from robustcheck.recommend.document import StoppedActivation
        from robustcheck.recommend.words import stop_sentence

        for stop in stops:
            self._say(stop_sentence(StoppedActivation(**asdict(stop))))
        self._say(f"after seed {seeds}: {len(running)} still in the race")

    def _say(self, text: str) -> None:
        from robustcheck.reporting.wording import plain

        click.echo(plain(text), err=True)


def _print(found: Recommendation) -> None:
    from rich import box
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    from robustcheck.recommend.words import headline, options_table, paragraph, race_sentences
    from robustcheck.reporting.wording import plain

    console = Console()
    console.print(Text(plain(headline(found)), style="bold"))
    console.print()
    console.print(Padding(Text(plain(" ".join(paragraph(found)))), (0, 0, 0, 2)))
    options = options_table(found)
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for index, column in enumerate(options.columns):
        grid.add_column(Text(column), justify="right" if index else "left", overflow="fold")
    for line in options.lines:
        grid.add_row(*(Text(plain(cell), style="bold" if line.lead else "") for cell in line.cells))
    console.print()
    console.print(grid)
    console.print()
    for sentence in (*options.notes, *race_sentences(found)):
        console.print(Padding(Text(plain(sentence)), (0, 0, 0, 2)))
