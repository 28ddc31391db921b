"""How the benchmarks measure: contestants that take turns, the spread of a ratio, and the bytes of tensors alive."""

from __future__ import annotations

import gc
import statistics
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from robustcheck.sensing.kernels import cpu

Clock = Callable[[], float]
Times = dict[str, list[float]]
Contestants = dict[str, Callable[[], object]]


def paired(contestants: Contestants, repeats: int, clock: Clock = time.perf_counter) -> Times:
    """Seconds of each call, the contestants taking turns so that a slow moment of the machine hits all alike.

    Each is called once beforehand. Garbage of one is collected before the next starts, so that nobody pays for
    another's. The clock is `time.perf_counter` or `time.process_time` (all threads of this process).
    """
    return timed_by(contestants, repeats, (clock,))[0]


def timed_by(contestants: Contestants, repeats: int, clocks: Sequence[Clock]) -> list[Times]:
    """What `paired` does, by several clocks at once."""
    times: list[Times] = [{name: [] for name in contestants} for _ in clocks]
    for call in contestants.values():
        call()
    gc.collect()
    gc.freeze()
    try:
        for _ in range(repeats):
            for name, call in contestants.items():
                gc.collect()
                starts = [clock() for clock in clocks]
                call()
                for each, clock, start in zip(times, clocks, starts, strict=True):
                    each[name].append(clock() - start)
    finally:
        gc.unfreeze()
    return times


def use_threads(count: int) -> None:
    """Run torch and the kernel on so many threads from now on."""
    cpu.set_threads(count)  # first: when its threads start they set OpenMP's number, which torch obeys
    torch.set_num_threads(count)


@dataclass(frozen=True)
class Spread:
    """Repeated figures of one thing: their median and quartiles, and how many there are."""

    median: float
    low: float
    high: float
    count: int


def spread(values: Iterable[float]) -> Spread:
    """Median and quartiles (inclusive: the smallest and largest of the values are the 0 and 100 % points).

    >>> spread([4, 1, 2, 3, 5])
    Spread(median=3, low=2.0, high=4.0, count=5)
    """
    found = sorted(values)
    if len(found) == 1:
        return Spread(found[0], found[0], found[0], 1)
    low, _, high = statistics.quantiles(found, n=4, method="inclusive")
    return Spread(statistics.median(found), low, high, len(found))


def ratio(times: Times, over: str, under: str) -> Spread:
    """Spread of the ratios of two contestants, each within its own round.

    >>> ratio({"a": [2.0, 8.0], "b": [1.0, 2.0]}, "a", "b").median
    3.0
    """
    return spread(a / b for a, b in zip(times[over], times[under], strict=True))


class _Alive(TorchDispatchMode):
    """Counts bytes of the storages that operators make while it is on, and keeps the peak.

    A storage counts once, whatever views it has, from the operator that returns it until it is freed: by its last
    tensor, Python's or autograd's. What an operator needs only within itself is not seen.
    """

    def __init__(self, held: int) -> None:
        super().__init__()
        self.now = self.peak = held
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {storage._cdata for storage in _storages((args, kwargs))}
        out = func(*args, **(kwargs or {}))
        for storage in _storages(out):
            key, size = storage._cdata, storage.nbytes()
            if key not in given and key not in self._known:
                self._known.add(key)
                self.now += size
                weakref.finalize(storage, self._free, key, size).atexit = False
        self.peak = max(self.peak, self.now)
        return out

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def _storages(tree: Any) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def bytes_of(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of the storages behind tensors, each counted once.

    >>> x = torch.zeros(10)
    >>> bytes_of([x, x[:5], x.reshape(2, 5)])
    40
    """
    return sum({storage._cdata: storage.nbytes() for storage in _storages(list(tensors))}.values())


def peak_bytes(call: Callable[[], object], held: Iterable[torch.Tensor] = ()) -> int:
    """The most bytes of tensors alive at one moment of a call, on the CPU.

    Args:
        call: what to run, once. Tensors that it finds and did not make are not counted.
        held: tensors that are there before and count too, such as parameters; they must stay alive.
    """
    gc.collect()
    counter = _Alive(bytes_of(held))
    with counter:
        call()
    return counter.peak


def say(text: str) -> None:
    """Progress, for whoever waits."""
    print(text, file=sys.stderr, flush=True)
