"""The pool of workers: nothing is lost when one dies, nothing is left when the pool ends; and studies that use it."""

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from functools import partial
from pathlib import Path

import numpy as np
import pool_tasks
import pytest
import torch

from robustcheck import Study, load_data, run_study
from robustcheck.data.shared import share
from robustcheck.errors import DataError, StoreError, WorkerError
from robustcheck.study import pool as pools
from robustcheck.study import runner
from robustcheck.study.cells import Cell, contestants, load_study
from robustcheck.study.handover import hand_over
from robustcheck.study.pool import Ended, Lost, Pool, Started
from robustcheck.study.runner import run_cell
from robustcheck.study.store import Store

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")


class Line(deque):
    """The tasks in their order; those that come back are last."""

    take = deque.popleft
    put_back = deque.append


def outcome(pool, tasks):
    """What became of each task, and all events."""
    events = list(pool.run(Line(tasks)))
    return {event.task: event.result for event in events if isinstance(event, Ended)}, events


def alive(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def pool():
    with Pool(2, pool_tasks.worker) as pool:
        yield pool


def test_every_task_is_done_once_and_begins_before_it_ends(pool):
    tasks = [("square", number) for number in range(20)]
    found, events = outcome(pool, tasks)
    assert found == {("square", number): number**2 for number in range(20)}
    assert len(events) == 40
    assert [event.task for event in events if isinstance(event, Started)] == tasks
    under_way = set()
    for event in events:
        (under_way.add if isinstance(event, Started) else under_way.remove)(event.task)
        assert len(under_way) <= 2


def test_workers_stay_for_the_next_queue_and_have_one_thread(pool):
    first, _ = outcome(pool, [("pid", number) for number in range(6)])
    second, _ = outcome(pool, [("pid", number) for number in range(6)])
    assert set(second.values()) <= set(first.values())
    assert len(set(first.values())) <= 2
    assert os.getpid() not in first.values()
    threads, _ = outcome(pool, [("environment", "OMP_NUM_THREADS"), ("environment", "NUMBA_NUM_THREADS")])
    assert set(threads.values()) == {"1"}


def test_a_worker_is_born_with_one_thread_and_leaves_standard_output_alone(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        """
import os
from collections import deque

BORN = os.environ.get("NUMBA_NUM_THREADS")

from robustcheck.study.pool import Ended, Pool


class Line(deque):
    take = deque.popleft


def work(task):
    print("from Python")
    os.write(1, b"from native code")
    return BORN


def start():
    return work


if __name__ == "__main__":
    with Pool(1, start) as pool:
        (ended,) = (event for event in pool.run(Line([1])) if isinstance(event, Ended))
    print(BORN, ended.result, os.environ.get("NUMBA_NUM_THREADS"))
"""
    )
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_NUM_THREADS"}
    ran = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["None", "1", "None"]
    assert "from Python" in ran.stderr
    assert "from native code" in ran.stderr


def test_a_worker_that_dies_as_it_starts_ends_nothing_where_others_serve(monkeypatch):
    with Pool(2, pool_tasks.worker) as pool:
        outcome(pool, [("square", 1), ("square", 2)])
        hire, starts = Pool._hire, []

        def hire_and_kill(self):
            hire(self)
            starts.append(self._workers[-1].process.pid)
            os.kill(starts[-1], signal.SIGKILL)

        monkeypatch.setattr(Pool, "_hire", hire_and_kill)
        os.kill(pool._workers[0].process.pid, signal.SIGKILL)
        tasks = [("sleep", 0.5 + 0.01 * number) for number in range(8)]
        found, _ = outcome(pool, tasks)
        assert found == {task: task[1] for task in tasks}
        # At most three in vain, and two more before the other worker of the first tasks has said that it is ready.
        assert 1 <= len(starts) <= 5
        # Where none is left to go on with, there is an end to it.
        for worker in pool._workers:
            worker.process.kill()
        with pytest.raises(WorkerError, match="before it could begin"):
            outcome(pool, tasks)


def test_no_more_workers_are_started_than_there_are_tasks():
    with Pool(8, pool_tasks.worker) as pool:
        assert not pool._workers
        outcome(pool, [("square", 1)])
        assert len(pool._workers) == 1
        outcome(pool, [("square", 1), ("square", 2)])
        assert len(pool._workers) == 2


def test_results_of_many_megabytes_arrive_whole(pool):
    found, _ = outcome(pool, [("large", 48), ("large", 33), ("square", 3)])
    assert [len(found["large", size]) for size in (48, 33)] == [48 << 20, 33 << 20]
    assert found["large", 48][: 1 << 20] == found["large", 48][-(1 << 20) :]


def test_what_raises_or_cannot_be_sent_or_read_is_a_text_and_the_worker_goes_on(pool):
    before = {worker.process.pid for worker in pool._workers}
    found, _ = outcome(pool, [("raise", "two\n lines"), ("lambda",), ("unreadable",), ("square", 5)])
    assert found["raise", "two\n lines"] == "ValueError: two lines"
    assert found["lambda",].startswith("its result cannot be sent: ")
    assert found["unreadable",].startswith("its result cannot be read: ValueError: invalid literal")
    assert found["square", 5] == 25
    assert {worker.process.pid for worker in pool._workers} == before


def test_a_task_whose_worker_is_killed_once_is_done_by_another(pool, tmp_path):
    task = ("die_once", str(tmp_path / "died"))
    found, events = outcome(pool, [task, *(("square", number) for number in range(6))])
    assert found[task] == "done at the second try"
    assert [event for event in events if event.task == task] == [
        Started(task), Lost(task), Started(task), Ended(task, "done at the second try"),
    ]  # fmt: skip
    # It is tried again after all the others.
    assert events.index(Lost(task)) < max(i for i, event in enumerate(events) if event == Started(task))
    assert len(found) == 7


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (("die", signal.SIGKILL), r"its worker process was killed \(SIGKILL, as when memory runs out\) twice; run the"),
        (("die", signal.SIGSEGV), r"its worker process was killed \(SIGSEGV, a fault in native code\) twice; "),
        (("exit", 3), r"its worker process ended with exit code 3 twice; run the same command again"),
    ],
)
def test_a_task_that_ends_its_worker_always_is_tried_twice_and_then_reported(pool, task, said):
    found, events = outcome(pool, [("square", 1), task, ("square", 2)])
    assert sum(event == Started(task) for event in events) == 2
    assert re.match(said, found[task])
    assert (found["square", 1], found["square", 2]) == (1, 4)


def test_two_ways_to_die_are_both_named():
    assert pools._died_twice("was killed (SIGKILL)", "ended with exit code 3").startswith(
        "its worker process was killed (SIGKILL), and at the second try ended with exit code 3; "
    )


def test_a_dead_worker_is_seen_though_a_child_of_it_lives_on(tmp_path):
    note = tmp_path / "child"
    with Pool(1, pool_tasks.worker) as pool:
        found, _ = outcome(pool, [("die_with_a_child", str(note)), ("square", 4)])
    os.kill(int(note.read_text()), signal.SIGKILL)
    assert "twice" in found["die_with_a_child", str(note)]
    assert found["square", 4] == 16


def test_an_idle_worker_that_is_killed_is_replaced(pool):
    outcome(pool, [("square", 1), ("square", 2)])
    idle = [worker for worker in pool._workers if worker.ready]
    assert idle
    for worker in idle:
        worker.process.kill()
        worker.process.join()
    found, _ = outcome(pool, [("square", 6), ("square", 7)])
    assert found == {("square", 6): 36, ("square", 7): 49}


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (pool_tasks.broken, r"cannot begin: net\.onnx: expected a model, got none; try again with --jobs 1"),
        (pool_tasks.dead, r"ended with exit code 7 before it could begin; .*standard error.*__main__"),
    ],
)
def test_a_worker_that_cannot_begin_ends_the_run_and_says_why(start, said):
    with Pool(2, start) as pool, pytest.raises(WorkerError, match=said):
        outcome(pool, [("square", 1)])
    assert not pool._workers


def test_a_function_that_cannot_be_imported_is_an_error_with_its_name(tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("def start():\n    return str\n")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        import only_here
    with Pool(1, only_here.start) as pool, pytest.raises(WorkerError, match=r"ModuleNotFoundError: .*'only_here'"):
        outcome(pool, [1])


def pids_of(pool):
    return [worker.process.pid for worker in pool._workers]


@pytest.mark.parametrize("error", [StoreError("the disk is full"), KeyboardInterrupt()])
def test_an_error_here_ends_the_workers_at_once(error, tmp_path):
    note, pids = tmp_path / "note", []

    def run():
        with Pool(2, pool_tasks.worker) as pool:
            for event in pool.run(Line([("touch_and_sleep", str(note), 60), ("square", 2), ("sleep", 60)])):
                if isinstance(event, Ended):
                    pids.extend(pids_of(pool))
                    wait_until(note.exists)
                    raise error

    began = time.monotonic()
    with pytest.raises(type(error)):
        run()
    assert time.monotonic() - began < 30
    assert len(pids) == 2
    assert not any(map(alive, pids))


def test_at_the_end_no_worker_is_left():
    with Pool(2, pool_tasks.worker) as pool:
        outcome(pool, [("square", 1), ("square", 2)])
        pids = pids_of(pool)
        assert all(map(alive, pids))
    assert len(pids) == 2
    assert not any(map(alive, pids))


PARENT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import pool_tasks
from robustcheck.study.pool import Pool, Ended
from test_pool_line import Line
if __name__ == "__main__":
    with Pool(2, pool_tasks.worker, Path({scratch!r})) as pool:
        for event in pool.run(Line([("touch_and_sleep", {a!r}, 600), ("touch_and_sleep", {b!r}, 600)])):
            print(event, flush=True)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_their_parent_whatever_ends_it(tmp_path, how):
    scratch, notes = tmp_path / "scratch", [tmp_path / "a", tmp_path / "b"]
    scratch.mkdir()
    (scratch / "data.npy").write_bytes(b"0")
    (tmp_path / "test_pool_line.py").write_text(
        "from collections import deque\nclass Line(deque):\n    take = deque.popleft\n    put_back = deque.append\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(
        PARENT.format(tests=str(Path(__file__).parent), scratch=str(scratch), a=str(notes[0]), b=str(notes[1]))
    )
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_until(lambda: all(note.exists() and note.read_text() for note in notes))
    pids = [int(note.read_text()) for note in notes]
    if how == signal.SIGINT:
        os.killpg(process.pid, how)
    else:
        process.send_signal(how)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == -how
    wait_until(lambda: not any(map(alive, pids)))
    if how == signal.SIGINT:
        # The parent's own traceback is the only one.
        assert errors.count("Traceback") == errors.count("KeyboardInterrupt") == 1
    else:
        wait_until(lambda: not scratch.exists())


def test_ctrl_c_while_workers_start_shows_no_traceback_of_theirs(tmp_path):
    script = tmp_path / "starting.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nimport pool_tasks\n"
        "from collections import deque\nfrom robustcheck.study.pool import Pool\n"
        "class Line(deque):\n    take, put_back = deque.popleft, deque.append\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        "        with Pool(4, pool_tasks.worker) as pool:\n"
        "            print('begun', flush=True)\n"
        "            list(pool.run(Line(('sleep', 60 + i) for i in range(4))))\n"
        "    except KeyboardInterrupt:\n"
        "        sys.exit(130)\n"
    )
    for delay in (0.0, 0.03, 0.08, 0.2):
        process = subprocess.Popen(
            [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        assert process.stdout.readline() == "begun\n"
        time.sleep(delay)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (130, "")


NETWORKS = """
import contextlib, os, signal
from pathlib import Path
import torch
from torch import nn

class Net(nn.Module):
    # Its GELU kills the process in training: always where there is a file `kill`, once where there is `kill.once`.
    def __init__(self, note):
        super().__init__()
        self.layer, self.act, self.head = nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)
        self.note = Path(__file__).with_name(note)
    def forward(self, x):
        if self.training and isinstance(self.act, nn.GELU):
            once = self.note.with_suffix(".once")
            if self.note.exists() or once.exists():
                with contextlib.suppress(FileNotFoundError):
                    self.note.exists() or once.unlink()
                    os.kill(os.getpid(), signal.SIGKILL)
        return self.head(self.act(self.layer(x.flatten(1))))

def build():
    return Net("kill")

def another_each_time():
    torch.manual_seed(os.getpid())
    return Net("kill")

def only_here():
    if os.environ.get("ONLY_HERE") != str(os.getpid()):
        raise RuntimeError("not in this process")
    return Net("kill")
"""


@pytest.fixture
def own_networks(tmp_path, monkeypatch):
    (tmp_path / "own_pool_networks.py").write_text(NETWORKS)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("own_pool_networks", None)


def study_of(factory, **changes):
    settings = {
        "models": [{"spec": f"own_pool_networks:{factory}"}],
        "data": {"spec": "digits", "max_samples": 120},
        "sensors": [{"spec": "adc-4bit", "placement": "network"}],
        "eps": [0.5],
        "activations": ["gelu", "tanh"],
        "seeds": 2,
        "draws": 2,
        "training": {"mode": "scratch", "epochs": 2, "learning_rates": [1e-3, 3e-3]},
    }
    return Study.create(**{**settings, **changes})


def text(report):
    document = json.loads(report.to_json())
    document.pop("provenance")
    return json.dumps(document)


def test_a_study_is_the_same_at_any_jobs_though_a_worker_is_killed(own_networks, monkeypatch):
    study, once = study_of("build"), own_networks / "kill.once"
    undisturbed = run_study(study, own_networks / "one")
    assert not undisturbed.failures
    temporary = own_networks / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(runner, "hand_over", lambda *given: handed.append(given) or hand_over(*given))
    once.touch()
    events, mapped, handed = [], [], []

    def watch(now):
        events.append(now)
        mapped.extend(temporary.rglob("train-images.npy"))

    disturbed = run_study(study, own_networks / "two", jobs=2, progress=watch)
    assert not once.exists()
    assert text(disturbed) == text(undisturbed)
    assert mapped
    assert len(handed) == 1  # its workers serve both stages
    assert not list(temporary.iterdir())
    for stage in ("learning rates", "networks"):
        now = [event for event in events if event.stage == stage]
        assert (now[0].done, now[0].running, now[0].label) == (0, 0, "")
        assert (now[-1].done, now[-1].running, now[-1].lost) == (6, 0, stage == "learning rates")
        assert max(event.running for event in now) in (1, 2)
        assert [event.done for event in now] == sorted(event.done for event in now)
        # One as the stage begins, and one as each cell begins and ends; the lost one began twice, and was lost.
        assert len(now) == 1 + 2 * 6 + 2 * (stage == "learning rates")
    assert events[0].seconds_left is None
    assert events[-1].seconds_left == 0


def test_a_cell_that_kills_its_workers_is_reported_after_two_tries_and_the_others_are_done(own_networks):
    (own_networks / "kill").touch()
    study = study_of("build", seeds=1, training={"mode": "scratch", "epochs": 1, "learning_rates": [1e-3]})
    events = []
    with Store(own_networks / "out", study.document()) as store:
        outcome = runner.run(load_study(study), store, jobs=2, progress=events.append)
        (failure,) = outcome.failures
        stored = store.held(map(outcome.loaded.hash, outcome.cells))
    assert failure.cell.contestant.activation == "gelu"
    assert failure.error == pools._died_twice(*["was killed (SIGKILL, as when memory runs out)"] * 2)
    assert len(stored) == 2
    assert failure.hash not in stored
    # Begun, lost, begun, failed.
    assert [event.label for event in events].count(failure.cell.label) == 4
    assert (events[-1].done, events[-1].total, events[-1].running, events[-1].failed) == (3, 3, 0, 1)


def test_failures_are_in_the_reports_order_whatever_ended_first(own_networks, monkeypatch):
    study = study_of("build", training={"mode": "scratch", "epochs": 1, "learning_rates": [1e-3]})

    @contextlib.contextmanager
    def backwards(loaded, jobs):
        def execute(schedule):
            cells = [schedule.take() for _ in range(len(schedule))]
            yield from map(Started, cells)
            yield from (Ended(cell, f"{cell.label} failed") for cell in reversed(cells))

        yield execute

    monkeypatch.setattr(runner, "_executor", backwards)
    with Store(own_networks / "out", study.document()) as store:
        outcome = runner.run(load_study(study), store, jobs=2)
    assert [failure.cell for failure in outcome.failures] == list(outcome.cells)
    assert outcome.failures[0].error == "rank relu, train EP 0.5, seed 0, lr 0.001 failed"


def test_a_model_that_is_another_in_each_process_is_an_error_that_says_so(own_networks):
    with pytest.raises(WorkerError, match=r"own_pool_networks:another_each_time: expected the model that this run"):
        run_study(study_of("another_each_time"), jobs=2)


def test_a_model_that_a_worker_cannot_load_is_an_error_and_the_run_does_not_hang(own_networks, monkeypatch):
    monkeypatch.setenv("ONLY_HERE", str(os.getpid()))
    with pytest.raises(WorkerError, match=r"cannot begin: .*not in this process"):
        run_study(study_of("only_here"), jobs=2)


def test_data_is_mapped_by_the_workers_and_not_copied(tmp_path):
    data = load_data("digits", max_samples=100)
    images = torch.randint(0, 256, (len(data.train), 3, 256, 512), dtype=torch.uint8)
    kilobytes = images.numel() // 1024
    data = dataclasses.replace(data, train=dataclasses.replace(data.train, images=images))
    with Pool(1, partial(pool_tasks.reader, share(data, tmp_path))) as pool:
        found, _ = outcome(pool, [f"{tmp_path}/train-images.npy"])
    ((memory, total),) = found.values()
    assert total == int(images.sum())
    # All of it is in the worker's memory, and none of that is its own.
    assert memory["Rss"] >= kilobytes
    assert memory["Anonymous"] == 0


def test_writing_to_mapped_data_changes_no_file(tmp_path):
    shared = share(load_data("digits", max_samples=60), tmp_path)
    first, second = shared.open(), shared.open()
    first.train.images.zero_()
    assert not bool(second.train.images.eq(0).all())
    assert torch.equal(shared.open().train.images, second.train.images)


def test_mapped_data_are_the_same_to_the_last_stride(tmp_path):
    data = load_data("digits", max_samples=60)
    again = share(data, tmp_path).open()
    for name, split in data.splits.items():
        for part in ("images", "labels", "sample_ids"):
            one, two = getattr(split, part), getattr(again.splits[name], part)
            assert (two.dtype, two.shape, two.stride()) == (one.dtype, one.shape, one.stride())
            assert torch.equal(one, two)
    assert {**vars(data), **again.splits} == vars(again)


def test_a_cell_in_a_worker_is_that_of_this_process_to_the_bit(tmp_path):
    loaded = load_study(study_of("", models=[{"spec": "digits-convnet"}]))
    cell = Cell("rank", contestants(loaded)[1], 3, 1e-3)
    here, there = run_cell(loaded, cell), run_cell(hand_over(loaded, tmp_path).open(), cell)
    assert here.training == there.training
    assert here.predictions.keys() == there.predictions.keys()
    for point, prediction in here.predictions.items():
        assert np.array_equal(prediction.predicted, there.predictions[point].predicted)
        assert np.array_equal(prediction.probability, there.predictions[point].probability)


def test_nothing_is_read_or_decoded_again_and_a_second_run_starts_no_worker(own_networks, monkeypatch):
    rng = np.random.default_rng(0)
    file = own_networks / "data.npz"
    np.savez(file, images=rng.random((120, 8, 8), dtype=np.float32), labels=np.arange(120) % 10)
    study = study_of("build", data={"spec": f"npz:{file}"}, seeds=1, training={"mode": "none"})
    loaded = load_study(study)
    file.unlink()
    with Store(own_networks / "out", study.document()) as store:
        outcome = runner.run(loaded, store, jobs=2)
        assert not outcome.failures
        monkeypatch.setattr(runner, "hand_over", None)
        assert runner.run(loaded, store, jobs=2).cells == outcome.cells


def test_a_folder_that_cannot_be_written_is_an_error_with_a_remedy(tmp_path):
    with pytest.raises(DataError, match=r"cannot be written here.*TMPDIR.*--jobs 1"):
        share(load_data("digits", max_samples=60), tmp_path / "absent")
