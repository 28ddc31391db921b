"""robustcheck: does a trained vision model survive a real sensor, and which activation should it use there?

The names below are the whole public interface; each is loaded when it is first used, since torch takes seconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robustcheck.activations.catalogue import activation
    from robustcheck.data.datasets import load_data
    from robustcheck.networks.loading import load_model
    from robustcheck.networks.saving import save_model, swapped_model
    from robustcheck.networks.surgery import swap_activation
    from robustcheck.reporting.produce import run_study
    from robustcheck.reporting.report import Report
    from robustcheck.sensing.channel import channel
    from robustcheck.sensing.error_probability import error_probability, noise_sigma
    from robustcheck.sensing.profile import load_sensor
    from robustcheck.study.evaluation import evaluate
    from robustcheck.study.plan import Study
    from robustcheck.study.training import train

_HOME = {
    "Report": "robustcheck.reporting.report",
    "Study": "robustcheck.study.plan",
    "activation": "robustcheck.activations.catalogue",
    "channel": "robustcheck.sensing.channel",
    "error_probability": "robustcheck.sensing.error_probability",
    "evaluate": "robustcheck.study.evaluation",
    "load_data": "robustcheck.data.datasets",
    "load_model": "robustcheck.networks.loading",
    "load_sensor": "robustcheck.sensing.profile",
    "noise_sigma": "robustcheck.sensing.error_probability",
    "run_study": "robustcheck.reporting.produce",
    "save_model": "robustcheck.networks.saving",
    "swap_activation": "robustcheck.networks.surgery",
    "swapped_model": "robustcheck.networks.saving",
    "train": "robustcheck.study.training",
}

__all__ = [
    "Report",
    "Study",
    "activation",
    "channel",
    "error_probability",
    "evaluate",
    "load_data",
    "load_model",
    "load_sensor",
    "noise_sigma",
    "run_study",
    "save_model",
    "swap_activation",
    "swapped_model",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'robustcheck' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__doc__", "__name__"])
