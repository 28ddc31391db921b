"""How many noise draws a precision takes: two stages, after Stein.

The draw error is half the 95 % interval of one network's accuracy over noise draws, for the test samples that it is
evaluated on: what more draws make smaller. More test samples are another matter, see `analysis.intervals`.

C. Stein 1945 (doi 10.1214/aoms/1177731088): n first draws give the standard deviation s of a draw's accuracy, and
N = max(n, ⌈(t s / d)²⌉) draws are taken in all, with d the precision and t the 0.975 quantile of Student's
distribution with n − 1 degrees of freedom. N is decided once, and by s alone, which says nothing about where the mean
of normal numbers lies; so mean ± t s / √N holds with 95 % whatever N came out as. Drawing until an interval is narrow
looks again after every draw and stops where s is small by luck: where few samples ever change, such intervals held in
86 % of the tests' simulations, and this rule's in 95 % or more. The price is t: five first draws lead to nearly twice
the draws that thirty do, where many are needed.

A draw is one realisation of all noise. That its samples share the noise of the weights makes s larger and changes
nothing else. What happens in fewer draws than one in n, such as weights that now and then break the network, n draws
may not show: more first draws are the remedy.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from robustcheck.errors import InvalidValueError

LEAST = 1e-4
"""Far below what any test set leaves open: 10^6 samples leave ± 0.0006 at an accuracy of .9."""

LEAST_FIRST = 5
"""First draws: with fewer, Student's t asks for many times the draws that are needed (t = 12.7 with two)."""

MOST_DRAWS = 100_000
MOST_PREDICTIONS = 2**20
"""At one operating point, unless more first draws are asked for: 8 MiB, and a cell keeps all its points."""


def draws_for(accuracies: NDArray[np.float64], precision: float, samples: int) -> int:
    """How many draws are taken in all.

    Args:
        accuracies: `(n,)`, n >= 5, the accuracy of each first draw, in [0, 1].
        precision: the draw error that is asked for, from 1e-4 to 0.5.
        samples: number of test samples behind each accuracy.

    Returns:
        N >= n, at most 100,000 and 2^20 / samples, but for n itself; `draw_error` then says what was reached.

    Raises:
        InvalidValueError: fewer than 5 first draws, or a precision out of its range.

    >>> draws_for(np.array([0.90, 0.91, 0.92, 0.93, 0.94]), precision=0.01, samples=360)
    20
    """
    check_precision(precision, len(accuracies))
    needed = math.ceil((_half_width(accuracies, samples) / precision) ** 2)
    return max(len(accuracies), min(needed, MOST_DRAWS, MOST_PREDICTIONS // samples))


def draw_error(accuracies: NDArray[np.float64], draws: int, samples: int) -> float:
    """Half the 95 % interval over noise draws, t s / √N, after all draws were taken.

    Args:
        accuracies: `(n,)`, those of the first draws alone, which decided on `draws`.
        draws: N.
        samples: number of test samples behind each accuracy.

    >>> round(draw_error(np.array([0.90, 0.91, 0.92, 0.93, 0.94]), draws=20, samples=360), 4)
    0.0098
    """
    return _half_width(accuracies, samples) / math.sqrt(draws)


def check_precision(precision: float, first: int) -> None:
    """Raise InvalidValueError unless a precision can be asked for, with so many first draws."""
    if not LEAST <= precision < 0.5:
        raise InvalidValueError("precision", expected=f"{LEAST} <= precision < 0.5 (0.005 is 0.5 %)", got=precision)
    if first < LEAST_FIRST:
        raise InvalidValueError(
            "draws",
            expected=f"at least {LEAST_FIRST} with a precision, whose size they decide",
            got=first,
        )


def _half_width(accuracies: NDArray[np.float64], samples: int) -> float:
    """Of one draw's interval, t s.

    Few draws that are all alike do not show that no draw differs: after five, 3/5 of a sample may still change in the
    mean draw (95 %, the rule of three), a standard deviation of 0.8 samples. So s is taken as one sample at least.
    """
    spread = max(float(np.std(accuracies, ddof=1)), 1.0 / samples)
    return float(stats.t.isf(0.025, len(accuracies) - 1)) * spread
