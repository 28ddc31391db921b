"""Companding: linear codes sent as fewer, coarser where shot noise hides it, along a curve straight between its knees.

Both sides are whole numbers. A linear code x is sent as ⌊C(x)⌋, which is what dividing in hardware does, and comes back
as the centre of the linear codes that share it. The last knee is the end: its input is the number of linear codes, its
output the number of companded ones (4096 and 1024 for 12 bits to 10). A converter clips, so what lies outside the curve
is clipped to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from robustcheck.errors import InvalidValueError
from robustcheck.sensing.camera_profile import Companding


@dataclass(frozen=True)
class _Cells:
    """The linear codes that share each companded one.

    Attributes:
        first: (codes,) float32, the lowest of them.
        width: (codes,) float32, how many they are.
        centre: (codes,) float32, their mean.
    """

    first: torch.Tensor
    width: torch.Tensor
    centre: torch.Tensor


def encode(linear_dn: torch.Tensor, curve: Companding) -> torch.Tensor:
    """Companded codes.

    Args:
        linear_dn: any shape, floating, linear codes [DN]. They are rounded to whole ones; below 0 and beyond the curve
            they are clipped to its first and last, as a converter does.
        curve: knees.

    Returns:
        int64, same shape, in [0, number of codes − 1].

    Raises:
        InvalidValueError: the curve ends between two codes, or has a code that no linear code reaches.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> a_law = load_sensor("camera-ar0331").hdr.companding
    >>> encode(torch.tensor([-3.0, 255.0, 300.0, 301.0]), a_law).tolist()
    [0, 255, 278, 278]
    """
    whole = linear_dn.round().contiguous()
    cells = _cells(curve, whole.device)
    return torch.bucketize(whole, cells.first[1:].to(whole.dtype), right=True)


def decode(codes: torch.Tensor, curve: Companding) -> torch.Tensor:
    """The centre of the linear codes that share a companded one.

    For every code c, `encode(decode(c))` is c; for every linear code x, `decode(encode(x))` is within half a step of x.

    Args:
        codes: any shape, whole numbers; outside [0, number of codes − 1] they are clipped to it.
        curve: knees.

    Returns:
        float32, same shape, linear codes [DN]; between two of them where an even number share one.

    Raises:
        InvalidValueError: the curve ends between two codes, or has a code that no linear code reaches.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> a_law = load_sensor("camera-ar0331").hdr.companding
    >>> decode(torch.tensor([-3, 255, 278]), a_law).tolist()
    [0.0, 255.0, 300.5]
    """
    cells = _cells(curve, codes.device)
    return cells.centre[codes.to(torch.int64).clamp(0, len(cells.centre) - 1)]


def step(linear_dn: torch.Tensor, curve: Companding) -> torch.Tensor:
    """The local step of the curve: how many linear codes share the companded code of each of these.

    Args:
        linear_dn: any shape, floating, linear codes [DN], clipped to the curve.
        curve: knees.

    Returns:
        float32, same shape [DN]; the standard deviation of the quantisation is step/√12.

    Raises:
        InvalidValueError: the curve ends between two codes, or has a code that no linear code reaches.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> a_law = load_sensor("camera-ar0331").hdr.companding
    >>> step(torch.tensor([255.0, 256.0, 512.0]), a_law).tolist()
    [1.0, 2.0, 4.0]
    """
    return _cells(curve, linear_dn.device).width[encode(linear_dn, curve)]


@lru_cache(maxsize=64)
def _cells(curve: Companding, device: torch.device) -> _Cells:
    ins, outs = np.array(curve.input_dn.values), np.array(curve.output_dn.values)
    if ins[-1] != int(ins[-1]) or outs[-1] != int(outs[-1]):
        end = (float(ins[-1]), float(outs[-1]))
        raise InvalidValueError("last knee of a companding curve", expected="whole codes", got=end)
    codes = np.arange(int(outs[-1]) + 1)
    segment = np.clip(np.searchsorted(outs, codes, side="right") - 1, 0, len(outs) - 2)
    # Multiplied first and divided last, a bound that is whole comes out whole.
    bound = ins[segment] + (codes - outs[segment]) * np.diff(ins)[segment] / np.diff(outs)[segment]
    first = np.ceil(bound)
    width = np.diff(first)
    if width.min() < 1:
        unreached = int(np.argmin(width))
        raise InvalidValueError(
            "companding curve",
            expected="codes that each stand for at least one linear code",
            got=f"none for code {unreached}",
            remedy="leave out the part of the curve that is steeper than 1",
        )
    tables = (first[:-1], width, first[:-1] + (width - 1) / 2)
    return _Cells(*(torch.tensor(table, dtype=torch.float32, device=device) for table in tables))
