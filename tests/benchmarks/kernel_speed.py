"""The converter alone: noise, clamp and rounding of 3.1 million values, beside AnalogVNN, plain torch and a copy."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable

import torch
from contestants import EP, SIGMA, STEPS
from measuring import Times, paired, ratio, use_threads
from table import Row, at_least, milliseconds

from robustcheck.sensing.converter import Converter
from robustcheck.sensing.random import stream_key

SHAPE = (64, 48, 32, 32)
OURS, ANALOGVNN, PLAIN = "robustcheck", "AnalogVNN", "plain torch"
Calls = dict[str, Callable[[], object]]


def values(shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    """Uniform in [−1.2, 1.2], so that a sixth of them meets the clamp, float32."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2.4 - 1.2


def ours(form: str, x: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Our converter on x."""
    convert = Converter(form, STEPS, SIGMA, signed=True)
    ids, key = torch.arange(len(x)), stream_key(0, "bench")
    return lambda: convert(x, key, ids, 0)


def contestants(form: str, x: torch.Tensor) -> Calls:
    """One conversion, three ways; each gives a new tensor."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own
        from analogvnn.nn.noise.GaussianNoise import GaussianNoise
        from analogvnn.nn.normalize.Clamp import Clamp
        from analogvnn.nn.precision.ReducePrecision import ReducePrecision

        noise, clamp = GaussianNoise(leakage=EP, precision=STEPS).eval(), Clamp().eval()
        reduce = ReducePrecision(precision=STEPS).eval()

    def analogvnn() -> torch.Tensor:
        return reduce(clamp(noise(x))) if form == "aod" else noise(reduce(clamp(x)))

    def plain() -> torch.Tensor:
        if form == "aod":
            return torch.round((x + SIGMA * torch.randn_like(x)).clamp(-1, 1) * STEPS) / STEPS
        return torch.round(x.clamp(-1, 1) * STEPS) / STEPS + SIGMA * torch.randn_like(x)

    return {OURS: ours(form, x), ANALOGVNN: analogvnn, PLAIN: plain}


def kinds(x: torch.Tensor) -> Calls:
    """Our AOD on other kinds of tensors, and a copy: the least that reads and writes each value."""
    return {
        "float32": ours("aod", x),
        "bfloat16": ours("aod", x.to(torch.bfloat16)),
        "float64": ours("aod", x.to(torch.float64)),
        "channels-last": ours("aod", x.to(memory_format=torch.channels_last)),
        "clone": x.clone,
    }


def _rate(times: Times, name: str, elements: int) -> str:
    return f"{name} {elements / statistics.median(times[name]) / 1e6:.0f} M/s"


def rows(repeats: int = 31, shape: tuple[int, ...] = SHAPE) -> list[Row]:
    """Wall time, without gradients; torch and the kernel have as many threads as the row says."""
    x = values(shape)
    found = []
    size = f"{x.numel() / 1e6:.2g} M float32"
    with torch.no_grad():
        for threads in (2, 1):
            use_threads(threads)
            count = "two threads" if threads == 2 else "one thread"
            for form in ("aod", "doa"):
                times = paired(contestants(form, x), repeats)
                promised = {ANALOGVNN: at_least(4, 8), PLAIN: at_least(3, 6)} if (threads, form) == (2, "aod") else {}
                for other in (ANALOGVNN, PLAIN):
                    found.append(
                        Row(
                            f"{form.upper()} on {size}, {count}: times faster than {other}",
                            ratio(times, other, OURS),
                            "×",
                            *promised.get(other, (None, None)),
                            f"{OURS} {milliseconds(times[OURS])} ({_rate(times, OURS, x.numel())[len(OURS) + 1 :]}), "
                            f"{other} {milliseconds(times[other])}",
                        )
                    )
            times = paired(kinds(x), repeats)
            for kind in ("bfloat16", "float64", "channels-last", "clone"):
                found.append(
                    Row(
                        f"AOD on float32, {count}: its time over that of `clone`"
                        if kind == "clone"
                        else f"AOD on {kind}, {count}: its time over that on contiguous float32",
                        ratio(times, "float32", kind) if kind == "clone" else ratio(times, kind, "float32"),
                        seen=f"{_rate(times, 'float32', x.numel())}, {_rate(times, kind, x.numel())}",
                    )
                )
    return found
