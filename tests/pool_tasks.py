"""What the workers of `test_pool` do: functions that import nothing slow, so that a worker starts in a moment."""

from __future__ import annotations

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

from robustcheck.errors import ModelError


def worker():
    """Start: a worker that does the tasks below."""
    return work


def broken():
    """Start: an error of ours."""
    raise ModelError("net.onnx: expected a model, got none")


def dead():
    """Start: the process ends before it is ready."""
    os._exit(7)


class _Unreadable:
    def __reduce__(self):
        return int, ("no number",)


def reader(shared):
    """Start: a worker that has read all of a shared data set."""
    data = shared.open()
    total = int(data.train.images.sum())
    return partial(_memory, data, total)


def _memory(data, total, path):
    """What the system says of the mapping of a file [kB], and the sum of what was read."""
    found, inside = {}, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, *rest = line.split()
        if not first.endswith(":"):
            inside = line.endswith(path)
        elif inside and first in ("Rss:", "Anonymous:"):
            found[first[:-1]] = found.get(first[:-1], 0) + int(rest[0])
    assert len(data.train) > 0
    return found, total


def work(task):
    """Do one task: a verb, and what it needs."""
    verb, *rest = task
    return globals()[f"_{verb}"](*rest)


def _square(number):
    return number * number


def _pid(_):
    return os.getpid()


def _environment(name):
    return os.environ.get(name)


def _large(megabytes):
    return os.urandom(1 << 20) * megabytes


def _raise(text):
    raise ValueError(text)


def _lambda():
    return lambda: 0


def _unreadable():
    return _Unreadable()


def _exit(code):
    sys.exit(code)


def _die(number):
    os.kill(os.getpid(), number)


def _die_once(path):
    if not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done at the second try"


def _die_with_a_child(path):
    """A forked child outlives the worker and holds all that it had open."""
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    Path(path).write_text(str(child))
    os.kill(os.getpid(), signal.SIGKILL)


def _sleep(seconds):
    time.sleep(seconds)
    return seconds


def _touch_and_sleep(path, seconds):
    Path(path).write_text(str(os.getpid()))
    time.sleep(seconds)
