"""`robustcheck models swap`: another activation in a model, trained if asked for, written in the form it came in."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from robustcheck.cli.options import data_options, with_options
from robustcheck.cli.sensor_options import sensor_options
from robustcheck.cli.study_options import base_study, model_options
from robustcheck.errors import UsageError

if TYPE_CHECKING:
    from robustcheck.networks.loading import Model
    from robustcheck.study.delivery import Delivered

FORMS = (".onnx", ".toml")
_OF_TRAINING = ("epochs", "batch_size", "rates", "seed", "device", "flip", "random_crop_padding", "rotate")
_OF_MEASURING = (
    "split_seed", "max_samples", "resize", "crop", "pad", "sensors", "settings", "device_seed", "bits", "steps", "eps",
    "exposures", "signals", "vary", "noise", "placement", "form", "range", "draws", "precision",
)  # fmt: skip


def _swap_options(command: Any) -> Any:
    return with_options(
        command,
        click.option("-a", "--activation", required=True, metavar="NAME", help="The activation to put in."),
        click.option("--only", metavar="KIND", help="Replace this kind alone, such as relu."),
        click.option("--where", metavar="PATTERN", help="Replace at these sites alone, such as 'features.*'."),
        click.option(
            "-o",
            "--out",
            required=True,
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="NAME.onnx, or NAME.toml: a recipe with NAME.safetensors beside it.",
        ),
        click.option(
            "--to", type=click.Choice(["onnx", "recipe"]), help="The form, where the file's suffix is not to decide."
        ),
        click.option(
            "--train",
            type=click.Choice(["none", "finetune", "scratch"]),
            default="none",
            show_default=True,
            help="Train the swapped model under the sensor's noise before it is written; needs --data.",
        ),
        click.option("--epochs", type=click.IntRange(1), default=30, show_default=True),
        click.option("--batch-size", type=click.IntRange(2), default=64, show_default=True),
        click.option(
            "--lr",
            "rates",
            type=click.FloatRange(0, 10, min_open=True, max_open=True),
            multiple=True,
            help="Learning rate; of several, the one that is best on validation is kept.",
        ),
        click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of order and noise."),
        click.option("--device", default="cpu", show_default=True, help="Where to train: cpu or cuda."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else."),
        click.option("-q", "--quiet", is_flag=True, help="No progress."),
    )


@click.command()
@click.argument("model")
@_swap_options
@model_options
@data_options
@sensor_options
def swap(model: str, **params: Any) -> None:
    """Replace MODEL's activations, and write the model: an ONNX file stays that file, but for nodes and weights.

    The written file is run in ONNX Runtime, or loaded again, and compared with the model before it appears. Without
    --train the weights stay what they are; a network rarely survives that without loss (robustcheck compare says).

    \b
    Examples:
      robustcheck models swap net.onnx -a gelu -o net-gelu.onnx
      robustcheck models swap net.onnx -a silu --only relu --where 'layer4.*' -o net-silu.onnx
      robustcheck models swap digits-convnet -a gelu --train finetune --epochs 5 --ep 0.5 -o digits-gelu.toml
      robustcheck models swap torchvision:resnet18 -a mish -o resnet18-mish.onnx
    """
    try:
        _swap(model, params)
    except KeyboardInterrupt:
        click.echo("interrupted; nothing was written", err=True)
        raise click.exceptions.Exit(130) from None


def _swap(model: str, params: dict[str, Any]) -> None:
    from robustcheck.networks.delivering import write_model
    from robustcheck.networks.loading import load_model, read_class_names
    from robustcheck.networks.saving import swapped_model
    from robustcheck.networks.surgery import swap_activation

    out = _out(params["out"], params["to"])
    names = None if params["classes"] is None else read_class_names(params["classes"])
    given = {key: params[key] for key in ("weights", "mean", "std", "input_range", "layout", "channel_order")}
    data = None
    _check_idle_options(params)
    if params["train"] != "none" or params["data"]:
        study, data = _study(params, model)
        names = data.classes
    loaded = load_model(model, classes=names, download=params["download"], **given)
    made = swap_activation(loaded, params["activation"], only=params["only"], where=params["where"])
    result = swapped_model(loaded, made)
    facts: dict[str, Any] = {
        "model": model,
        "activation": made.activation,
        "replaced": [{"path": site.path, "kind": site.kind, "nodes": list(site.nodes)} for site in made.replaced],
    }
    if data is not None:
        result = _trained(result, loaded, study, data, params, facts)
    written = write_model(result, out, None if data is None else data.shape)
    facts |= {"files": [str(path) for path in written.files], "checked": written.checked, "sha256": result.sha256}
    if params["as_json"]:
        click.echo(json.dumps(facts, indent=2))
        return
    _print(facts)


def _out(out: Path, form: str | None) -> Path:
    if form is not None:
        out = out if out.suffix in FORMS else Path(f"{out}.onnx" if form == "onnx" else f"{out}.toml")
    if out.suffix not in FORMS or (form is not None and out.suffix != (".onnx" if form == "onnx" else ".toml")):
        raise UsageError(f"--out {out}: expected NAME.onnx or NAME.toml, in agreement with --to; give one of them")
    if not out.parent.is_dir():
        raise UsageError(f"--out {out}: expected a file in a folder that exists; make {out.parent} first")
    try:
        with tempfile.TemporaryFile(dir=out.parent):
            return out
    except OSError as error:
        raise UsageError(f"--out {out}: expected a folder that can be written, got {error.strerror}") from error


def _check_idle_options(params: dict[str, Any]) -> None:
    """UsageError that lists every option that would do nothing, for want of training or of data."""
    if params["train"] != "none":
        return
    context = click.get_current_context()
    typed = {
        str(parameter.name): parameter.opts[-1]
        for parameter in context.command.params
        if context.get_parameter_source(str(parameter.name)) is click.core.ParameterSource.COMMANDLINE
    }
    training = [option for name, option in typed.items() if name in _OF_TRAINING]
    measuring = [] if params["data"] else [option for name, option in typed.items() if name in _OF_MEASURING]
    wrong = []
    if training:
        wrong.append(f"{', '.join(training)}: expected --train finetune or scratch, got no training")
    if measuring:
        wrong.append(f"{', '.join(measuring)}: expected --data to measure with, or --train, got neither")
    if wrong:
        raise UsageError("; ".join(wrong) + "; add what is missing, or leave them out")


def _study(params: dict[str, Any], model: str) -> tuple[Any, Any]:
    """The study that the options state, and its data."""
    from robustcheck.cli.options import load_data_from
    from robustcheck.study.plan import Study

    policy: dict[str, Any] = {"mode": params["train"], "epochs": params["epochs"], "batch_size": params["batch_size"]}
    if params["rates"]:
        policy["learning_rates"] = params["rates"]
    stated = base_study(params, model) | {"activations": [params["activation"]], "training": policy, "seeds": 1}
    study = Study.create(**stated)
    if len(study.sensors) != 1:
        got = ", ".join(choice.bind().key for choice in study.sensors)
        raise UsageError(f"--sensor, --bits: expected one sensor at one resolution, got {got}; leave one")
    return study, load_data_from(params, default=study.data.spec, class_names=study.data.classes)


def _trained(
    result: Model, before: Model, study: Any, data: Any, params: dict[str, Any], facts: dict[str, Any]
) -> Model:
    from robustcheck.analysis.intervals import sample_error
    from robustcheck.networks.fitting import check_fit
    from robustcheck.study.delivery import evaluations, train_for_use

    check_fit(result, data.shape, data.classes)
    sensor = study.sensors[0].bind()
    points = study.operating_points(sensor)
    found_before = evaluations(before, data, sensor, points, study.draws, study.precision)
    facts["accuracy_before"] = {name: each.accuracy for name, each in found_before.items()}
    if params["train"] != "none":
        delivered: Delivered = train_for_use(
            result,
            data,
            sensor,
            points,
            policy=study.training,
            seed=params["seed"],
            device=params["device"],
            progress=lambda text: None if params["quiet"] else click.echo(text, err=True),
        )
        result = delivered.trained.model
        facts["learning_rate"] = delivered.rate
        facts["validation"] = {f"{rate:g}": accuracy for rate, accuracy in delivered.trials}
    found = evaluations(result, data, sensor, points, study.draws, study.precision)
    facts["accuracy"] = {name: each.accuracy for name, each in found.items()}
    noisy = [each for each in (*found_before.values(), *found.values()) if each.draw_error is not None]
    if noisy:
        facts["precision"] = study.precision
        facts["draw_error"] = max(each.draw_error or 0.0 for each in noisy)
        facts["sample_error"] = max(sample_error([each.correct]) for each in noisy)
    return result


def _print(facts: dict[str, Any]) -> None:
    sites = facts["replaced"]
    kinds = ", ".join(dict.fromkeys(site["kind"] for site in sites))
    click.echo(f"{facts['activation']} in place of {kinds} at {len(sites)} site{'s' if len(sites) > 1 else ''}:")
    for site in sites[:10]:
        click.echo(f"  {site['path']}")
    if len(sites) > 10:
        click.echo(f"  … and {len(sites) - 10} more (--json lists all)")
    if "learning_rate" in facts:
        tried = ", ".join(f"{rate}: {accuracy:.3f}" for rate, accuracy in facts["validation"].items())
        click.echo(f"learning rate {facts['learning_rate']:g} (validation accuracy under noise: {tried})")
    if "accuracy" in facts:
        before = facts["accuracy_before"]
        found = [
            f"{name} {100 * value:.1f} (was {100 * before[name]:.1f})" for name, value in facts["accuracy"].items()
        ]
        click.echo(f"test accuracy [%]: {', '.join(found)}")
        if "draw_error" in facts:
            missed = "" if facts["draw_error"] <= facts["precision"] else ", not reached: more draws are not kept"
            click.echo(f"largest draw error ± {100 * facts['draw_error']:.2g} points{missed}")
            alone = f"{100 * facts['sample_error']:.2g} points, whatever the draws"
            click.echo(f"the number of test samples alone leaves up to ± {alone}")
    click.echo(f"wrote {' and '.join(facts['files'])} ({facts['checked']})")
