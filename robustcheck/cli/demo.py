"""`robustcheck demo`: the main job on embedded data, from audit to report, in minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from robustcheck.cli.study_options import cores, run_and_report

MODEL = "digits-convnet"
SENSOR = {"spec": "adc-4bit", "placement": "network", "range": "unit"}
EPS = (0.3, 0.45, 0.6, 0.7)
ACTIVATIONS = ("relu", "leaky_relu", "gelu", "silu", "mish", "aptx")
TRAINING = {
    "mode": "scratch",
    "train_ep": "mixed",
    "epochs": 16,
    "learning_rates": (0.003, 0.01, 0.03),
    "tuning_seeds": 2,
}

_AUDIT_TEXT = """
1  The shipped network as it is

   A small convolutional network (ReLU) reads 8 × 8 digits through converters of 2, 4 and 8 bits. The error
   probability (EP) is the chance that a value on a code centre changes code: the same EP is more noise where
   the codes are wider. Nothing is trained or swapped here.
"""
_COMPARE_TEXT = """
2  Which activation learns best where every layer is noisy

   Now each linear and convolution layer works on 4-bit values with noise, and so do its weights: an analogue
   accelerator. Six activations are trained from scratch, {seeds} networks each, over a mix of EPs, each at the
   learning rate that is best for it on the validation split. The EPs lie in the band where networks part: with
   less noise all learn, with more none does.
"""
_END_TEXT = """
   The numbers are whatever came out on this machine; run it again and they are the same. Small networks on small
   images are a demonstration, not a recommendation: `robustcheck compare` asks the same of your network and data.
"""


@click.command()
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, file_okay=False), default="robustcheck-demo", show_default=True
)
@click.option(
    "--seeds", type=click.IntRange(2, 50), default=5, show_default=True, help="Trained networks an activation."
)
@click.option(
    "--jobs", type=click.IntRange(1), default=cores, show_default="one a core", help="Worker processes of one thread."
)
@click.option("--json", "as_json", is_flag=True, help="Print the comparison's report as JSON, and nothing else.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def demo(out: Path, seeds: int, jobs: int, as_json: bool, quiet: bool) -> int:
    """See it work: audit the shipped network, then compare six activations under noise, with confidence.

    Takes two to three minutes on two cores. Writes report.json, report.md and report.html, with charts.

    \b
    Examples:
      robustcheck demo
      robustcheck demo --seeds 10 -o more-seeds
    """
    from robustcheck.study.plan import Study

    common: dict[str, Any] = {"models": [{"spec": MODEL}], "data": {"spec": "digits"}}
    audit = Study.create(
        kind="audit", **common, sensors=[{"spec": f"adc-{bits}bit"} for bits in (2, 4, 8)], eps=(0.2, 0.4, 0.6, 0.8)
    )
    compare = Study.create(
        **common, sensors=[SENSOR], eps=EPS, activations=ACTIVATIONS, seeds=seeds, draws=3, training=TRAINING
    )
    params = {
        "jobs": jobs, "device": "cpu", "download": False, "charts": True, "save_study": None,
        "as_json": as_json, "quiet": quiet,
    }  # fmt: skip
    _say(_AUDIT_TEXT, as_json)
    code = run_and_report({**params, "out": out / "audit", "jobs": 1, "as_json": False, "silent": as_json}, audit)
    _say(_COMPARE_TEXT.format(seeds=seeds), as_json)
    code = run_and_report({**params, "out": out}, compare) or code
    _say(_END_TEXT, as_json)
    return code


def _say(text: str, as_json: bool) -> None:
    if not as_json:
        click.echo(text)
