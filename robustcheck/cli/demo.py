"""`robustcheck demo`: the main job on embedded data, from audit to report, in minutes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from robustcheck.cli.study_options import cores, run_and_report

ACTIVATIONS = ("relu", "leaky_relu", "gelu", "silu", "mish", "aptx")

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
_LIDAR_AUDIT_TEXT = """
1  The shipped network as it is

   A small convolutional network (ReLU) tells objects apart in range images of simulated scenes, 16 beams of 128
   returns, through a Velodyne VLP-16 whose return signal fog, dirt or distance has weakened. The signal is the share
   of it that arrives. Nothing is trained or swapped here.
"""
_LIDAR_COMPARE_TEXT = """
2  Which activation learns best where returns are lost

   Now the network's activation is swapped for each of six, and each is fine-tuned under that noise, {seeds} networks an
   activation, over a mix of signals, at the learning rate that is best for it on the validation split.
"""
_END_TEXT = """
   The numbers are whatever came out on this machine; run it again and they are the same. Small networks on small
   images are a demonstration, not a recommendation: `robustcheck compare` asks the same of your network and data.
"""


@dataclass(frozen=True)
class _Show:
    """What is shown: an audit of a shipped model, and a comparison; fields of studies, and the words before each."""

    model: str
    data: Mapping[str, Any]
    audit: Mapping[str, Any]
    audit_text: str
    compare: Mapping[str, Any]
    compare_text: str


DIGITS = _Show(
    model="digits-convnet",
    data={"spec": "digits"},
    audit={"sensors": [{"spec": f"adc-{bits}bit"} for bits in (2, 4, 8)], "eps": (0.2, 0.4, 0.6, 0.8)},
    audit_text=_AUDIT_TEXT,
    compare={
        "sensors": [{"spec": "adc-4bit", "placement": "network", "range": "unit"}],
        "eps": (0.3, 0.45, 0.6, 0.7),
        "draws": 3,
        "training": {
            "mode": "scratch",
            "train_ep": "mixed",
            "epochs": 16,
            "learning_rates": (0.003, 0.01, 0.03),
            "tuning_seeds": 2,
        },
    },
    compare_text=_COMPARE_TEXT,
)
LIDAR = _Show(
    model="lidar-rangenet",
    data={"spec": "lidar-scenes", "max_samples": 1600},
    audit={"sensors": [{"spec": "lidar-vlp16"}], "signals": (0.03, 0.1, 0.3, 1.0)},
    audit_text=_LIDAR_AUDIT_TEXT,
    compare={
        "sensors": [{"spec": "lidar-vlp16"}],
        "signals": (0.1, 0.3, 1.0),
        "draws": 3,
        "training": {"mode": "finetune", "train_ep": "mixed", "epochs": 5, "learning_rates": (0.001, 0.003)},
    },
    compare_text=_LIDAR_COMPARE_TEXT,
)


@click.command()
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, file_okay=False), default="robustcheck-demo", show_default=True
)
@click.option("--lidar", is_flag=True, help="A LIDAR and simulated scenes, rather than a converter and digits.")
@click.option(
    "--seeds", type=click.IntRange(2, 50), default=5, show_default=True, help="Trained networks an activation."
)
@click.option(
    "--jobs", type=click.IntRange(1), default=cores, show_default="one a core", help="Worker processes of one thread."
)
@click.option("--json", "as_json", is_flag=True, help="Print the comparison's report as JSON, and nothing else.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def demo(out: Path, lidar: bool, seeds: int, jobs: int, as_json: bool, quiet: bool) -> int:
    """See it work: audit a shipped network, then compare six activations under noise, with confidence.

    Takes two to four minutes on two cores. Writes report.json, report.md and report.html, with charts.

    \b
    Examples:
      robustcheck demo
      robustcheck demo --seeds 10 -o more-seeds
      robustcheck demo --lidar -o lidar-demo
    """
    from robustcheck.study.plan import Study

    show = LIDAR if lidar else DIGITS
    common: dict[str, Any] = {"models": [{"spec": show.model}], "data": show.data}
    audit = Study.create(kind="audit", **common, **show.audit)
    compare = Study.create(**common, activations=ACTIVATIONS, seeds=seeds, **show.compare)
    params = {
        "jobs": jobs, "device": "cpu", "download": False, "charts": True, "save_study": None,
        "as_json": as_json, "quiet": quiet,
    }  # fmt: skip
    _say(show.audit_text, as_json)
    code = run_and_report({**params, "out": out / "audit", "jobs": 1, "as_json": False, "silent": as_json}, audit)
    _say(show.compare_text.format(seeds=seeds), as_json)
    code = run_and_report({**params, "out": out}, compare) or code
    _say(_END_TEXT, as_json)
    return code


def _say(text: str, as_json: bool) -> None:
    if not as_json:
        click.echo(text)
