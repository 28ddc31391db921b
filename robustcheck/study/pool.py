"""A pool of worker processes of one thread each, which outlives the death of any of them."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Generic, Protocol, Self, TypeVar

from robustcheck.errors import RobustcheckError, WorkerError

Task = TypeVar("Task", bound=Hashable)
Result = TypeVar("Result")

_ENVIRONMENT: Final = {
    # Each of these libraries would start one thread a core.
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"),
    # glibc gives large tensors' memory back at once, and a training step then asks for all of it anew: 6 to 11 %
    # of the time of the paper's network, as measured; the most that was held at a time was the same.
    **dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), str(2**30)),
}
_STARTS_IN_VAIN: Final = 3
_LOOK_SECONDS: Final = 1.0
_LEAVE_SECONDS: Final = 5.0
_KNOWN_SIGNALS: Final = {
    "SIGKILL": "as when memory runs out",
    "SIGSEGV": "a fault in native code",
    "SIGABRT": "native code gave up",
    "SIGBUS": "as when a file that it maps was cut short, or a disk is full",
}


class Queue(Protocol[Task]):
    """The tasks that wait; their order is the queue's own affair."""

    def __len__(self) -> int: ...

    def take(self) -> Task:
        """The task to begin now."""

    def put_back(self, task: Task) -> None:
        """A task that a worker took with it; it is tried once more."""


@dataclass(frozen=True)
class Started(Generic[Task]):
    """A task was begun."""

    task: Task


@dataclass(frozen=True)
class Lost(Generic[Task]):
    """A task's worker died for the first time: the task waits again."""

    task: Task


@dataclass(frozen=True)
class Ended(Generic[Task, Result]):
    """A task is done: its result, or in one line why there is none."""

    task: Task
    result: Result | str


@dataclass(frozen=True)
class _Ready:
    """A worker's first message."""


@dataclass(frozen=True)
class _Gone:
    """In place of a message: the worker is dead."""


@dataclass(frozen=True)
class _Refused:
    """A worker's first and last message: it cannot begin."""

    why: str


@dataclass(eq=False)
class _Worker(Generic[Task]):
    process: SpawnProcess
    pipe: Connection[Any, Any]
    ready: bool = False
    task: Task | None = None


class Pool(Generic[Task, Result]):
    """Spawned worker processes; use it with `with`. At the end, and on any error, none of them is left.

    A task whose worker dies (killed, a fault, no memory) is tried once more in a new worker. Workers are started when
    there are tasks for them, ignore Ctrl-C, and end when this process does, whatever ends it.

    Args:
        size: the most workers at once.
        start: called once in each worker; returns the function from a task to its result. Both travel by `pickle`, so
            `start` is a function of a module, or a `partial` of one. An exception of that function is the task's
            result, as text.
        scratch: a folder of the caller that its workers remove where this process is killed before it can.

    Raises:
        WorkerError: from `run`, where a worker cannot start or ends before it is ready.
    """

    def __init__(self, size: int, start: Callable[[], Callable[[Task], Result]], scratch: Path | None = None) -> None:
        self._size = size
        self._start = start
        self._scratch = scratch
        self._workers: list[_Worker[Task]] = []
        self._served = False
        self._in_vain = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # At once: a task that is under way may take hours, and idle workers hold nothing that is not here.
        for worker in self._workers:
            if worker.process.pid is not None:
                worker.process.kill()
        while self._workers:
            self._bury(self._workers[-1])

    def run(self, queue: Queue[Task]) -> Iterator[Started[Task] | Lost[Task] | Ended[Task, Result]]:
        """Do all tasks of a queue, and say what happens. Each result is passed on as it comes, and kept nowhere."""
        deaths: dict[Task, str] = {}
        while len(queue) or self._busy():
            while len(self._workers) < min(self._size, len(queue) + self._busy()):
                self._hire()
            for worker in self._workers:
                if (begun := self._give(worker, queue)) is not None:
                    yield Started(begun)
            for worker in self._reporting():
                task, message = worker.task, _message(worker)
                if isinstance(message, _Refused):
                    raise WorkerError(f"a worker process cannot begin: {message.why}; try again with --jobs 1")
                if isinstance(message, _Gone):
                    how = self._bury(worker)
                    if not worker.ready:
                        self._not_begun(how)
                    if task is not None and task not in deaths:
                        deaths[task] = how
                        queue.put_back(task)
                        yield Lost(task)
                    elif task is not None:
                        yield Ended(task, _died_twice(deaths[task], how))
                    continue
                # The worker goes on before its result is dealt with.
                if not worker.ready:
                    self._served, self._in_vain = True, 0
                worker.ready, worker.task = True, None
                begun = self._give(worker, queue)
                if task is not None:
                    yield Ended(task, message)
                if begun is not None:
                    yield Started(begun)
                del message

    def _not_begun(self, how: str) -> None:
        """A worker died before it was ready. Where others have served, try anew, then go on with those that live."""
        self._in_vain += 1
        if self._served and self._in_vain < _STARTS_IN_VAIN:
            return
        if self._served and self._workers:
            self._size = len(self._workers)
            return
        raise WorkerError(f"a worker process {how} before it could begin; {_NOT_BEGUN}")

    def _busy(self) -> int:
        return sum(worker.task is not None for worker in self._workers)

    def _hire(self) -> None:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        worker: _Worker[Task] = _Worker(context.Process(target=_serve, args=(theirs, self._scratch)), ours)
        self._workers.append(worker)
        try:
            with _interrupts_held(), _worker_environment():
                worker.process.start()
        except OSError as error:
            raise WorkerError(f"a worker process cannot be started: {error}; use fewer --jobs") from error
        finally:
            theirs.close()
        with suppress(ConnectionError):  # it is dead already, which is seen next
            worker.pipe.send(self._start)

    def _give(self, worker: _Worker[Task], queue: Queue[Task]) -> Task | None:
        """Have an idle worker begin the queue's next task, if there is one; that task."""
        if not worker.ready or worker.task is not None or not len(queue):
            return None
        task = queue.take()
        try:
            worker.pipe.send(task)
        except ConnectionError:
            queue.put_back(task)
            return None
        worker.task = task
        return task

    def _reporting(self) -> list[_Worker[Task]]:
        """Waits a while for workers that have something to say or are dead."""
        handles = [handle for worker in self._workers for handle in (worker.pipe, worker.process.sentinel)]
        heard = set(connection.wait(handles, _LOOK_SECONDS))
        # A process that a task forked holds pipe and sentinel open after its worker's death; the exit code tells.
        return [worker for worker in self._workers if worker.pipe in heard or worker.process.exitcode is not None]

    def _bury(self, worker: _Worker[Task]) -> str:
        """Forget a worker that is dead or shall be; how it ended."""
        self._workers.remove(worker)
        worker.pipe.close()
        if worker.process.pid is None:
            return "was not started"
        worker.process.join(_LEAVE_SECONDS)
        code = worker.process.exitcode
        worker.process.kill()
        worker.process.join()
        worker.process.close()
        return "stopped answering" if code is None else _ending(code)


def in_one_line(error: BaseException) -> str:
    """An error as a table can show it.

    >>> in_one_line(ValueError("expected one,   got two"))
    'ValueError: expected one, got two'
    """
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _message(worker: _Worker[Any]) -> Any:
    try:
        return worker.pipe.recv() if worker.pipe.poll() else _Gone()
    except (EOFError, OSError):
        return _Gone()
    except Exception as error:  # what a task's own classes raise when they are unpickled here
        return f"its result cannot be read: {in_one_line(error)}"


def _ending(code: int) -> str:
    """How a process with this exit code ended.

    >>> _ending(-signal.SIGKILL), _ending(3)
    ('was killed (SIGKILL, as when memory runs out)', 'ended with exit code 3')
    """
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed ({', '.join(filter(None, (name, _KNOWN_SIGNALS.get(name))))})"


def _died_twice(first: str, second: str) -> str:
    how = f"{first} twice" if first == second else f"{first}, and at the second try {second}"
    return f"its worker process {how}; run the same command again to try once more, with fewer --jobs if memory ran out"


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes started meanwhile are born with Ctrl-C blocked: it would end them with a traceback as they import."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # starting this would let signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _worker_environment() -> Iterator[None]:
    """Processes started meanwhile have the environment of a worker.

    From their birth: libraries look when they are imported, and the first thing that a spawned process imports is the
    caller's own script, which may import them.
    """
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(pipe: Connection[Any, Any], scratch: Path | None) -> None:
    """A worker: leave Ctrl-C to the parent, end when the parent does, do one task after the other."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, args=(scratch,), daemon=True).start()
    # What a user's own code prints is for the reader, and not in the output of the command.
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    try:
        work = pipe.recv()()
    except Exception as error:
        pipe.send(_Refused(str(error) if isinstance(error, RobustcheckError) else in_one_line(error)))
        return
    pipe.send(_Ready())
    with suppress(EOFError, ConnectionError):
        while True:
            _answer(pipe, work, pipe.recv())


def _answer(pipe: Connection[Any, Any], work: Callable[[Any], Any], task: Any) -> None:
    try:
        result = work(task)
    except Exception as error:
        result = in_one_line(error)
    try:
        pipe.send(result)
    except OSError:
        raise
    except Exception as error:  # it cannot be pickled, and nothing was sent yet
        pipe.send(f"its result cannot be sent: {in_one_line(error)}")


def _end_with_parent(scratch: Path | None) -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
        os._exit(1)


_NOT_BEGUN: Final = (
    "what it wrote to standard error, if anything, says why; a script that runs a study with several jobs is a file, "
    'and does so below `if __name__ == "__main__":`; with one job there is no such process'
)
