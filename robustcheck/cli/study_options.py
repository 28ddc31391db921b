"""Options of the commands that run a study, and the study that they state."""

from __future__ import annotations

import itertools
import os
import shlex
import sys
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from robustcheck import content
from robustcheck.cli.options import data_options, with_options
from robustcheck.cli.sensor_options import operating_points, sensor_options
from robustcheck.errors import InvalidValueError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from robustcheck.reporting.report import Report
    from robustcheck.study.plan import Study

_Command = TypeVar("_Command", bound=Callable[..., Any])
_NORMALISED = "Of the normalisation; what MODEL states, else none, if not given."
_OF_A_MODEL = ("weights", "mean", "std", "input_range", "layout", "channel_order")
_OF_DATA = ("split_seed", "max_samples", "resize", "crop", "pad", "flip", "random_crop_padding", "rotate")
_OF_SENSORS = ("settings", "device_seed", "vary", "noise", "placement", "form", "range")
_OF_A_STUDY = ("draws", "precision", "sensitivity")
_AXES = ("eps", "exposures", "signals")
_SWAPPED = b'format = "robustcheck swapped model"'


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _numbers(count: int | None, what: str) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    def parse(_context: click.Context, _parameter: click.Parameter, text: str | None) -> tuple[float, ...] | None:
        if text is None:
            return None
        try:
            values = tuple(float(part) for part in text.split(","))
        except ValueError:
            values = ()
        if not values or (count is not None and len(values) != count):
            raise click.BadParameter(f"expected {what}, got {text!r}")
        return values

    return parse


def model_options(command: _Command) -> _Command:
    """What a model cannot tell itself."""
    return with_options(
        command,
        click.option(
            "--weights",
            metavar="FILE|NAME",
            help="Weights: .safetensors, .pt (a state dict), or torchvision's and timm's own by name, such as DEFAULT; "
            "as MODEL comes if not given, which is at random for torchvision and timm.",
        ),
        click.option("--mean", metavar="M,…", callback=_numbers(None, "numbers a,b,c"), help=_NORMALISED),
        click.option("--std", metavar="S,…", callback=_numbers(None, "numbers a,b,c"), help=_NORMALISED),
        click.option(
            "--input-range",
            metavar="LOW,HIGH",
            callback=_numbers(2, "two numbers LOW,HIGH"),
            help="Values that black and white map to before the normalisation; what MODEL states, else 0,1, if not "
            "given.",
        ),
        click.option(
            "--layout",
            type=click.Choice(["NCHW", "NHWC"]),
            help="Order of the network's input axes; what MODEL states, else NCHW, if not given.",
        ),
        click.option(
            "--channel-order",
            type=click.Choice(["RGB", "BGR"]),
            help="Order of the network's channels; what MODEL states, else RGB, if not given.",
        ),
        click.option(
            "--classes",
            metavar="FILE",
            help="Class names of the data, one a line, in label order; the data's own if not given.",
        ),
    )


def optimiser_options() -> tuple[Callable[[Any], Any], ...]:
    """How long and by what a network is trained."""
    return (
        click.option("--epochs", type=click.IntRange(1), default=30, show_default=True),
        click.option("--batch-size", type=click.IntRange(2), default=64, show_default=True),
        click.option("--optimizer", type=click.Choice(["adam", "adamw", "sgd"]), default="adam", show_default=True),
    )


def run_options(default_out: str, default_jobs: Callable[[], int] | int) -> Callable[[_Command], _Command]:
    """Where and how a study runs, and what it leaves."""

    def add(command: _Command) -> _Command:
        return with_options(
            command,
            click.option("--device", default="cpu", show_default=True, help="Where networks run: cpu or cuda."),
            click.option(
                "--jobs",
                type=click.IntRange(1),
                default=default_jobs,
                show_default="one a core" if callable(default_jobs) else True,
                help="Worker processes of one thread each; the report does not depend on it.",
            ),
            click.option(
                "-o",
                "--out",
                type=click.Path(path_type=Path, file_okay=False),
                default=default_out,
                show_default=True,
                help="Folder for the report and the store; run again to go on where it stopped. Not given, a number is "
                "added where another study lies there.",
            ),
            click.option(
                "--sensitivity",
                is_flag=True,
                help="With --placement network: also evaluate with noise at one layer at a time.",
            ),
            click.option("--charts", is_flag=True, help="Also write each chart as PNG and SVG."),
            click.option(
                "--save-study",
                type=click.Path(path_type=Path, dir_okay=False),
                metavar="FILE.toml",
                help="Also write the study as a file that says the same as these options.",
            ),
            click.option("--json", "as_json", is_flag=True, help="Print the report as JSON, and nothing else."),
            click.option("-q", "--quiet", is_flag=True, help="No progress and no notes."),
        )

    return add


def study_options(default_out: str, default_jobs: Callable[[], int] | int = cores) -> Callable[[_Command], _Command]:
    """All of the above, in the order that --help lists them."""

    def add(command: _Command) -> _Command:
        return with_options(
            command, data_options, model_options, sensor_options, run_options(default_out, default_jobs)
        )

    return add


def base_study(params: Mapping[str, Any], model: str) -> dict[str, Any]:
    """What audits and comparisons state alike: model, data, sensors, EPs, draws."""
    data = params["data"] or _recipe_data(model)
    if data is None:
        _check_there(model)
        raise UsageError("--data: expected a data set, got none; give one such as digits or folder:PATH")
    names = params["sensors"] or ("adc-4bit",)
    resolutions = _resolutions(params)
    shared = {key: params[key] for key in ("noise", "placement", "form")}
    shared["range"] = params["range"] or ("unit" if params.get("train") == "scratch" else "calibrated")
    points, at_exposure = operating_points(params, names)
    shared |= {
        "settings": params["settings"],
        "device_seed": params["device_seed"],
        "vary": params["vary"],
        **at_exposure,
    }
    return {
        "models": [{"spec": model, **{key: params[key] for key in _OF_A_MODEL}}],
        "data": {
            "spec": data,
            "classes": _class_names(params["classes"]),
            **{key: params[key] for key in _OF_DATA},
        },
        "sensors": [{"spec": name, **shared, **each} for name in names for each in resolutions or [{}]],
        **points,
        "draws": params["draws"],
        "precision": params["precision"],
        "sensitivity": params.get("sensitivity", False),
    }


def study_of(context: click.Context, study: Study, model: str) -> Study:
    """A study with another model in place of its own, and with what was typed in place of what it says.

    A model that the study itself names keeps what the study says of it.
    """
    from robustcheck.study.plan import Study

    typed = _typed_values(context)

    def of(names: tuple[str, ...]) -> dict[str, Any]:
        return {name: typed[name] for name in names if name in typed}

    document = study.document()
    own: dict[str, Any] = next((each for each in document["models"] if each["spec"] == model), {"spec": model})
    document["models"] = [own | of(_OF_A_MODEL)]
    document["data"] = _data_with(document["data"], typed)
    sensors = [{"spec": name} for name in typed["sensors"]] if "sensors" in typed else document["sensors"]
    resolutions = _resolutions(context.params)
    if resolutions:
        sensors = [{**each, "bits": None, "steps": None, **other} for each in sensors for other in resolutions]
    light: dict[str, Any] = {}
    if typed.keys() & {*_AXES, "vary"}:
        asked = of(_AXES) or {axis: tuple(map(str, document[axis])) for axis in _AXES}
        vary = typed.get("vary", sensors[0].get("vary", "exposure"))
        asked = dict.fromkeys(_AXES, ()) | asked | {"vary": vary}
        points, light = operating_points(asked, tuple(each["spec"] for each in sensors))
        document |= points
    document["sensors"] = [each | of(_OF_SENSORS) | light for each in sensors]
    return Study.create(**document | of(_OF_A_STUDY))


def _typed_values(context: click.Context) -> dict[str, Any]:
    """The values of the options that were typed, by their names."""
    return {
        str(each.name): context.params[str(each.name)]
        for each in context.command.params
        if context.get_parameter_source(str(each.name)) is click.core.ParameterSource.COMMANDLINE
    }


def _data_with(stated: Mapping[str, Any], typed: Mapping[str, Any]) -> dict[str, Any]:
    """A study's data with what was typed; the class names of other data are not those of the study's."""
    data = {**stated, **{name: typed[name] for name in _OF_DATA if name in typed}}
    if "data" in typed:
        data |= {"spec": typed["data"], "classes": None}
    if "classes" in typed:
        data["classes"] = _class_names(typed["classes"])
    return data


def states_a_study(model: str) -> bool:
    """Whether MODEL is a study, shipped or a file; the recipe of a swapped model is none. UsageError without a file."""
    if not model.endswith(".toml"):
        if model.startswith("study-") and model not in content.study_names():
            raise UnknownNameError("study", model, content.study_names(), remedy="(all: robustcheck models studies)")
        return model in content.study_names()
    try:
        with Path(model).open("rb") as file:
            return _SWAPPED not in file.read(4096)
    except FileNotFoundError as error:
        expected = "the file of a study or the recipe of a swapped model"
        raise UsageError(f"{model}: cannot be read: expected {expected}, got no file of this name") from error
    except OSError:
        return True


def typed_options(context: click.Context, *, but: Container[str]) -> list[str]:
    """The options that were typed, but for those of these names."""
    return [
        parameter.opts[-1]
        for parameter in context.command.params
        if str(parameter.name) not in but
        and context.get_parameter_source(str(parameter.name)) is click.core.ParameterSource.COMMANDLINE
    ]


def study_file(context: click.Context, path: str) -> Study:
    """The study of a file, or a shipped one; of the options that state a study only those of the data are taken."""
    from robustcheck.study.plan import Study

    of_the_run = {"model", "device", "jobs", "out", "charts", "save_study", "as_json", "quiet", "download"}
    allowed = {*of_the_run, "data", "classes", *_OF_DATA}
    typed = typed_options(context, but=allowed)
    if typed:
        raise UsageError(
            f"{path} states the whole study: expected at most --data and the options of the data beside it, got "
            + ", ".join(typed)
            + "; edit the file, or leave it out"
        )
    study = Study.load(content.shelf("models") / f"{path}.toml" if path in content.study_names() else path)
    document = study.document()
    return Study.create(**document | {"data": _data_with(document["data"], _typed_values(context))})


def out_folder(context: click.Context, out: Path, study: Study) -> Path:
    """The folder of a study: the one typed, else the first of NAME, NAME-2, … that holds no other study."""
    from robustcheck.study.store import holds_another_study

    if context.get_parameter_source("out") is click.core.ParameterSource.COMMANDLINE:
        return out
    document = study.document()
    folders = (out if number == 1 else out.with_name(f"{out.name}-{number}") for number in itertools.count(1))
    found = next(folder for folder in folders if not holds_another_study(folder, document))
    if found != out:
        click.echo(f"note: {out} holds another study, so this one goes to {found}", err=True)
    return found


def run_and_report(params: Mapping[str, Any], study: Study) -> int:
    """Run a study, write its report, print it (unless `silent`); the exit code."""
    from rich.console import Console

    from robustcheck.reporting.files import write_report
    from robustcheck.reporting.terminal import print_report

    out: Path = params["out"]
    report = report_of(params, study, out)
    written = write_report(report, out, charts=params["charts"])
    if params["as_json"]:
        click.echo(report.to_json(), nl=False)
    elif not params.get("silent"):
        print_report(report, Console())
        click.echo("wrote " + ", ".join(str(path) for path in written if path.parent == out))
    return 3 if report.failures else 0


def report_of(params: Mapping[str, Any], study: Study, out: Path) -> Report:
    """Run a study whose store lies in the folder `out`; its notes and failures are said on standard error.

    The study is saved as a file where `--save-study` asks for it.
    """
    from robustcheck.cli.progress import progress_shown
    from robustcheck.reporting.produce import run_study

    if params["save_study"] is not None:
        _write(params["save_study"], study.to_toml())
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    with progress_shown(params["quiet"]) as progress:
        report = run_study(
            study,
            out,
            jobs=params["jobs"],
            device=_device(params["device"]),
            download=params["download"],
            progress=progress,
            command=shlex.join(["robustcheck", *sys.argv[1:]]),
        )
    for note in () if params["quiet"] else report.data.notes:
        click.echo(f"note: {note}", err=True)
    for failure in report.failures:
        click.echo(f"error: {failure.what}: {failure.error}", err=True)
    return report


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _device(name: str) -> str:
    import torch

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InvalidValueError("--device", expected="cpu or cuda", got=name) from error
    if device.type not in ("cpu", "cuda"):
        raise InvalidValueError("--device", expected="cpu or cuda", got=name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InvalidValueError("--device", expected="a device that is there", got=name, remedy="use --device cpu")
    return name


def _resolutions(params: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What `--bits` or `--steps` say in place of a profile's resolution; UsageError for both."""
    if params["bits"] and params["steps"]:
        raise UsageError("expected --bits or --steps, got both; leave one out")
    return [{"bits": bits} for bits in params["bits"]] + [{"steps": steps} for steps in params["steps"]]


def _check_there(model: str) -> None:
    """UsageError for a model's file that is not there, or a name that no model has."""
    from robustcheck.networks.loading import spec_kind

    kind, path = spec_kind(model)
    if kind.startswith(".") and not Path(path).exists():
        raise UsageError(f"{model}: expected a model's file, got no file of this name; correct its path")


def _class_names(path: str | None) -> tuple[str, ...] | None:
    if path is None:
        return None
    from robustcheck.networks.loading import read_class_names

    return read_class_names(path)


def _recipe_data(model: str) -> str | None:
    """The data set that a shipped model was trained on."""
    from robustcheck.networks.recipes import load_recipe

    return load_recipe(model).data if model in content.model_names() else None
