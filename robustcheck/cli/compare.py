"""`robustcheck compare`: swap, retrain or fine-tune under the sensor's noise, and rank at each error probability."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from robustcheck.cli.options import with_options
from robustcheck.cli.study_options import (
    base_study,
    optimiser_options,
    out_folder,
    run_and_report,
    states_a_study,
    study_file,
    study_options,
)
from robustcheck.errors import UsageError

DEFAULT_ACTIVATIONS = ("relu", "leaky_relu", "gelu", "silu", "mish", "aptx")


def _training_options(command: Any) -> Any:
    return with_options(
        command,
        click.option(
            "-a",
            "--activation",
            "activations",
            multiple=True,
            metavar="NAME",
            help="Contestant (repeatable); six common ones if not given. The model's own always takes part.",
        ),
        click.option(
            "--seeds", type=click.IntRange(1), help="Trained networks a contestant; 5 if not given, 1 untrained."
        ),
        click.option(
            "--train",
            type=click.Choice(["finetune", "scratch", "none"]),
            default="finetune",
            show_default=True,
            help="Start from the weights given, from new ones, or swap without training.",
        ),
        click.option(
            "--train-ep",
            default="matched",
            show_default=True,
            metavar="matched|mixed|EP",
            help="Noise to train under: a network for each operating point, one over all of them, or one at this EP, "
            "which a LIDAR has not.",
        ),
        click.option(
            "--train-exposure",
            type=click.FloatRange(0, 1, min_open=True),
            metavar="SHARE",
            help="Of a camera: train one network at this exposure, and test it at every operating point.",
        ),
        click.option(
            "--train-signal",
            type=click.FloatRange(0, 1, min_open=True),
            metavar="SHARE",
            help="Of a LIDAR: the same at this signal.",
        ),
        *optimiser_options(),
        click.option("--schedule", type=click.Choice(["cosine", "constant"]), default="cosine", show_default=True),
        click.option("--weight-decay", type=click.FloatRange(0, 1, max_open=True), default=0.0, show_default=True),
        click.option(
            "--patience",
            type=click.IntRange(0),
            default=0,
            show_default=True,
            help="Stop after this many epochs without a better validation accuracy; 0 never stops early.",
        ),
        click.option(
            "--lr",
            "rates",
            type=click.FloatRange(0, 10, min_open=True, max_open=True),
            multiple=True,
            help="Learning rate; several make the grid that is tried on validation. "
            "0.0003, 0.001, 0.003 if not given; 0.001, 0.003, 0.01 from scratch.",
        ),
        click.option(
            "--lr-seeds",
            type=click.IntRange(1),
            default=1,
            show_default=True,
            help="Networks a learning rate of the grid is tried with.",
        ),
    )


@click.command()
@click.argument("model")
@_training_options
@study_options("robustcheck-compare")
@click.pass_context
def compare(context: click.Context, /, model: str, **params: Any) -> int:
    """Swap MODEL's activation, train it under the sensor's noise, and rank activations at each error probability.

    MODEL is an .onnx or .pt2 file, torchvision:NAME, timm:NAME, architecture:NAME(...), package.module:factory, a
    shipped model (robustcheck models list) or the recipe of a swapped one. Image classification only for now. The
    learning rate is chosen for each activation on the validation split, under noise; the test split is used once, for
    the report.

    In the place of MODEL a study, a .toml file or a shipped one (robustcheck models studies), states all that the
    options do. Beside it go only --data with the options of the data, and those of the run: --jobs, --device, --out,
    --charts, --save-study, --json, --quiet.

    \b
    Examples:
      robustcheck compare digits-convnet -a gelu -a silu --ep 0.5 --epochs 10
      robustcheck compare digits-convnet --sensor adc-3bit --placement network --train scratch --train-ep mixed
      robustcheck compare net.onnx --data folder:photos -a gelu -a silu --ep 0.5
      robustcheck compare torchvision:resnet18 --data folder:photos --resize 64x64 --train scratch --seeds 3
      robustcheck compare my_package.net:build --weights net.safetensors --data npz:data.npz
      robustcheck compare study.toml --jobs 2 -o results
      robustcheck compare study-convnet --data torchvision:FashionMNIST:data --download
    """
    from robustcheck.study.plan import Study

    if states_a_study(model):
        study = study_file(context, model)
        if study.kind != "compare":
            raise UsageError(f"{model}: expected a study of kind compare, got {study.kind}; use robustcheck audit")
        return run_and_report(params | {"out": out_folder(context, params["out"], study)}, study)
    stated = base_study(params, model)
    training: dict[str, Any] = {
        "mode": params["train"],
        "train_ep": _train_ep(params),
        "tuning_seeds": params["lr_seeds"],
        **{key: params[key] for key in ("epochs", "batch_size", "optimizer", "schedule", "weight_decay", "patience")},
    }
    if params["rates"]:
        training["learning_rates"] = params["rates"]
    stated |= {"activations": params["activations"] or DEFAULT_ACTIVATIONS, "training": training}
    if params["seeds"] is not None:
        stated["seeds"] = params["seeds"]
    study = Study.create(**stated)
    return run_and_report(params | {"out": out_folder(context, params["out"], study)}, study)


def _train_ep(params: Mapping[str, Any]) -> str | float:
    """What networks are trained at: `matched`, `mixed`, an EP, `exposure=SHARE` or `signal=SHARE`."""
    text = params["train_ep"]
    shares = {axis: params[f"train_{axis}"] for axis in ("exposure", "signal") if params[f"train_{axis}"] is not None}
    if len(shares) + (text != "matched") > 1:
        raise UsageError("expected one of --train-ep, --train-exposure and --train-signal, got several; leave one")
    for axis, share in shares.items():
        return f"{axis}={share!r}"
    if text in ("matched", "mixed"):
        return str(text)
    try:
        ep = float(text)
    except ValueError as error:
        raise UsageError(f"--train-ep: expected matched, mixed or an error probability, got {text!r}") from error
    from robustcheck.sensing.profile import load_sensor

    for profile in map(load_sensor, params["sensors"]):
        if profile.kind == "lidar":
            raise UsageError(
                f"--train-ep: expected matched or mixed with {profile.name}, a LIDAR, which has a signal and no EP, "
                f"got {text}; use --train-signal"
            )
    return ep
