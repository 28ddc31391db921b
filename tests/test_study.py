"""A tiny study end to end: the same report at any number of jobs, and after being killed at random points."""

import dataclasses
import importlib
import json
import linecache
import os
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest
from scipy import stats
from synthetic_report import unpacked
from torch import nn

from robustcheck import Report, Study, load_data, run_study
from robustcheck.errors import ModelError, UsageError
from robustcheck.study import runner
from robustcheck.study.cells import TUNING_SEED, contestants, load_study, ranking_cells, tuning_cells
from robustcheck.study.runner import above_chance
from robustcheck.study.store import FILE_NAME, Store
from robustcheck.study.training import Trained

TINY = Study.create(
    models=[{"spec": "digits-convnet"}],
    data={"spec": "digits", "max_samples": 120},
    sensors=[{"spec": "adc-4bit", "placement": "network"}],
    eps=[0.2, 0.5],
    activations=["gelu", "prelu"],
    seeds=2,
    draws=2,
    training={"mode": "finetune", "epochs": 2, "learning_rates": [1e-3, 3e-3]},
)


def text_without_provenance(report):
    document = json.loads(report.to_json())
    document.pop("provenance")
    return json.dumps(document)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    return run_study(TINY, folder), folder


def test_two_workers_give_the_same_report(undisturbed, tmp_path):
    report, _ = undisturbed
    assert text_without_provenance(run_study(TINY, tmp_path, jobs=2)) == text_without_provenance(report)


def test_a_second_run_computes_nothing(undisturbed):
    report, folder = undisturbed
    seen = []
    again = run_study(TINY, folder, progress=seen.append)
    assert seen == []
    assert text_without_provenance(again) == text_without_provenance(report)
    assert again.provenance["cell_seconds"] == report.provenance["cell_seconds"] > 0


def test_a_cell_has_one_thread_even_where_the_kernel_is_first_used_within_it():
    probe = """
import torch
from robustcheck import channel
from robustcheck.study.runner import one_thread
with one_thread():
    channel("adc-4bit", ep=0.5)(torch.rand(8, 1, 8, 8))
    print(torch.get_num_threads())
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OMP")}
    done = subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def stored_cells(folder):
    try:
        with sqlite3.connect(f"file:{folder / FILE_NAME}?mode=ro", uri=True) as database:
            return database.execute("SELECT count(*) FROM cells").fetchone()[0]
    except sqlite3.Error:
        return 0


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_study_killed_at_five_random_points_ends_with_the_same_report(undisturbed, tmp_path):
    report, _ = undisturbed
    study_file, out = tmp_path / "study.toml", tmp_path / "out"
    study_file.write_text(TINY.to_toml())
    command = [sys.executable, "-m", "robustcheck", "compare", str(study_file), "-o", str(out), "-q", "--jobs", "2"]
    rng = np.random.default_rng(20261121)
    total = 24
    for target in sorted(rng.choice(np.arange(1, total - 2), 5, replace=False).tolist()):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + 120
        while stored_cells(out) < target and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (out / "report.json").exists()
        # The workers end with their parent.
        deadline = time.monotonic() + 30
        while group_alive(process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not group_alive(process.pid)
    finished = subprocess.run(command, check=True, capture_output=True, text=True)
    assert finished.stderr == ""
    assert stored_cells(out) == total
    assert text_without_provenance(Report.load(out / "report.json")) == text_without_provenance(report)


def group_alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_ctrl_c_ends_with_130_and_loses_nothing(tmp_path):
    study_file, out = tmp_path / "study.toml", tmp_path / "out"
    study_file.write_text(TINY.to_toml())
    command = [sys.executable, "-m", "robustcheck", "compare", str(study_file), "-o", str(out), "-q", "--jobs", "2"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while stored_cells(out) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.lstrip() == "interrupted; what is finished is stored, and the same command goes on from there\n"
    assert stored_cells(out) >= 2


def test_the_report_counts_what_the_store_holds(undisturbed):
    report, folder = undisturbed
    loaded = load_study(TINY)
    labels = load_data("digits", max_samples=120).test.labels.numpy()
    chosen = {(tuning.activation, tuning.train_ep): tuning.chosen for tuning in report.tuning}
    rates = {who: chosen[who.activation, who.train_ep] for who in contestants(loaded)}
    (result,) = report.results
    assert [point.point.label for point in result.points] == ["EP 0.2", "EP 0.5"]
    with Store(folder) as store:
        for cell in ranking_cells(loaded, rates):
            ep = cell.contestant.train_ep
            correct = store.prediction(loaded.hash(cell), f"ep={ep}").predicted == labels
            assert correct.shape == (2, len(labels))
            (point,) = [p for p in result.points if repr(p.point.ep) == ep]
            (row,) = [r for r in point.comparison.rows if r.activation == cell.contestant.activation]
            assert row.per_seed[cell.seed] == pytest.approx(correct.mean(), abs=1e-12)
            (packed,) = [p for p in report.predictions if p.cell == loaded.hash(cell) and p.point == f"ep={ep}"]
            assert np.array_equal(unpacked(packed, len(labels)), correct)


def test_the_current_activation_takes_part_and_every_rate_is_tried_for_everyone(undisturbed):
    report, _ = undisturbed
    assert [(a.spec, a.current) for a in report.activations] == [("relu", True), ("gelu", False), ("prelu", False)]
    assert all([t.learning_rate for t in tuning.trials] == [1e-3, 3e-3] for tuning in report.tuning)
    for tuning in report.tuning:
        best = max(trial.validation_accuracy for trial in tuning.trials)
        assert tuning.chosen == min(t.learning_rate for t in tuning.trials if t.validation_accuracy == best)
        used = {
            t.learning_rate
            for t in report.training
            if (t.activation, t.train_ep) == (tuning.activation, tuning.train_ep)
        }
        assert used == {tuning.chosen}


def test_no_trial_shares_a_seed_with_a_ranked_network():
    loaded = load_study(TINY)
    assert min(cell.seed for cell in tuning_cells(loaded)) >= TUNING_SEED
    assert len({loaded.hash(cell) for cell in tuning_cells(loaded)}) == len(tuning_cells(loaded))


def test_more_seeds_reuse_the_cells_that_are_there(undisturbed, tmp_path):
    _, folder = undisturbed
    (tmp_path / FILE_NAME).write_bytes((folder / FILE_NAME).read_bytes())
    made = []
    report = run_study(TINY.model_copy(update={"seeds": 3}), tmp_path, progress=made.append)
    assert max(p.done for p in made) - min(p.done for p in made) == 6
    assert len(report.results[0].points[0].comparison.rows[0].per_seed) == 3


def audit_of(model, folder, eps=(0.5,), **data):
    return run_study(
        Study.create(
            kind="audit",
            models=[{"spec": model}],
            data={"spec": "digits", "max_samples": 60, **data},
            sensors=[{"spec": "adc-4bit"}],
            eps=list(eps),
            draws=1,
        ),
        folder,
    )


def test_neighbouring_error_probabilities_stay_apart(tmp_path):
    eps = (0.1234561, 0.1234562, 0.9999999)
    points = audit_of("digits-convnet", tmp_path, eps).results[0].points
    assert tuple(point.point.ep for point in points[2:]) == eps
    assert points[2].point.sigma < points[3].point.sigma < points[4].point.sigma


def test_a_cell_is_made_anew_when_the_models_code_changes(tmp_path, monkeypatch):
    code = """
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)
    def forward(self, x):
        return self.layer(x.flatten(1)) * 1.0
def build():
    return Net()
"""
    monkeypatch.chdir(tmp_path)
    found = []
    for factor in ("1.0", "-1.0"):
        (tmp_path / "changing_net.py").write_text(code.replace("* 1.0", f"* {factor}"))
        sys.modules.pop("changing_net", None)
        linecache.clearcache()
        importlib.invalidate_caches()
        found.append(audit_of("changing_net:build", tmp_path / "out"))
    sys.modules.pop("changing_net", None)
    assert found[0].models[0].sha256 != found[1].models[0].sha256
    assert found[0].predictions != found[1].predictions


NETWORKS = """
import torch
from torch import nn
from torch.nn import functional as F

class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(256, 10)
    def forward(self, x):
        return self.head(F.relu(self.conv(x), inplace=True).flatten(1))

class Asserts(InPlace):
    def forward(self, x):
        assert not self.training, "only for use"
        return super().forward(x)

class NotANumber(InPlace):
    def forward(self, x):
        return super().forward(x) * float("nan")

class Folds(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch, self.act, self.head = nn.Linear(32, 8), nn.ReLU(), nn.Linear(16, 10)
    def forward(self, x):
        patches = self.patch(x.reshape(len(x) * 2, 32))
        return self.head(self.act(patches).reshape(len(x), 16))
"""


@pytest.fixture
def own_networks(tmp_path, monkeypatch):
    (tmp_path / "own_networks.py").write_text(NETWORKS)
    monkeypatch.chdir(tmp_path)
    importlib.invalidate_caches()
    yield
    sys.modules.pop("own_networks", None)


def compare_of(model, **changes):
    settings = {
        "models": [{"spec": model}],
        "data": {"spec": "digits", "max_samples": 60},
        "sensors": [{"spec": "adc-4bit", "placement": "network"}],
        "eps": [0.5],
        "activations": ["relu"],
        "seeds": 2,
        "draws": 2,
        "training": {"epochs": 1, "learning_rates": [0.001]},
    }
    return run_study(Study.create(**{**settings, **changes}))


@pytest.mark.parametrize("name", ["InPlace", "Folds"])
def test_networks_that_write_in_place_or_fold_patches_into_the_batch(own_networks, name):
    one, two = compare_of(f"own_networks:{name}"), compare_of(f"own_networks:{name}")
    assert not one.failures
    assert text_without_provenance(one) == text_without_provenance(two)


def test_a_network_that_raises_is_a_failed_cell_and_not_the_end(own_networks):
    report = compare_of("own_networks:Asserts")
    assert [failure.error for failure in report.failures] == ["AssertionError: only for use"] * 2


def test_a_network_that_answers_nan_is_refused(own_networks):
    with pytest.raises(ModelError, match="expected finite logits"):
        compare_of("own_networks:NotANumber")


def test_contestants_that_failed_are_left_out_and_the_others_are_ranked(monkeypatch):
    real = runner.train

    def train(model, *arguments, **settings):
        if any(isinstance(module, nn.SiLU) for module in model.network.modules()):
            raise RuntimeError("no silu today")
        return real(model, *arguments, **settings)

    monkeypatch.setattr(runner, "train", train)
    report = compare_of("digits-convnet", activations=["gelu", "silu"])
    assert {failure.error for failure in report.failures} == {"RuntimeError: no silu today"}
    (point,) = report.results[0].points
    assert {row.activation for row in point.comparison.rows} == {"relu", "gelu"}


def test_untrained_swaps_are_judged_on_validation_too():
    report = compare_of("digits-convnet", seeds=1, activations=["gelu"], training={"mode": "none"})
    assert all(0 < cell.validation_accuracy <= 1 for cell in report.training)


def test_a_shipped_model_is_not_tested_on_what_it_was_trained_on():
    with pytest.raises(UsageError, match="--split-seed: expected 0"):
        compare_of("digits-convnet", data={"spec": "digits", "max_samples": 60, "split_seed": 7})


def test_convergence_is_judged_by_the_validation_splits_own_majority(tmp_path):
    # Most of the training data are of one class, the test split is balanced: always naming that class is no learning.
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [180, 20])
    np.savez(
        tmp_path / "skewed.npz",
        images=rng.random((200, 8, 8), dtype=np.float32),
        labels=labels,
        test_images=rng.random((40, 8, 8), dtype=np.float32),
        test_labels=np.repeat([0, 1], 20),
        class_names=np.array(["many", "few"]),
    )
    (tmp_path / "own_binary.py").write_text(
        "from torch import nn\n\ndef build():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 2))\n"
    )
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.chdir(tmp_path)
        report = compare_of("own_binary:build", data={"spec": "npz:skewed.npz"})
    assert all(cell.validation_accuracy > 0.85 for cell in report.training)
    assert not any(cell.converged for cell in report.training)


def test_a_device_is_part_of_a_cell():
    loaded = load_study(TINY)
    cell = tuning_cells(loaded)[0]
    assert dataclasses.replace(loaded, device="cuda:0").hash(cell) != loaded.hash(cell)
    assert dataclasses.replace(loaded, device="cuda:1").hash(cell) == dataclasses.replace(loaded, device="cuda:0").hash(
        cell
    )


def test_a_diverging_run_counts_with_the_accuracy_it_has():
    report = run_study(
        Study.create(
            models=[{"spec": "digits-convnet"}],
            data={"spec": "digits", "max_samples": 120},
            sensors=[{"spec": "adc-4bit"}],
            eps=[0.5],
            activations=["relu"],
            seeds=2,
            draws=1,
            training={"mode": "scratch", "epochs": 3, "learning_rates": [9.0], "optimizer": "sgd"},
        )
    )
    (row,) = report.results[0].points[0].comparison.rows
    assert row.converged == 0
    assert len(row.per_seed) == 2
    assert row.accuracy < 0.3
    assert not report.failures


def test_a_run_whose_loss_was_not_finite_did_not_converge_however_good_its_kept_epoch():
    loaded = load_study(TINY)
    cell = tuning_cells(loaded)[0]
    kept = Trained(loaded.models[0], {}, (0.1, float("nan")), (0.95,), 0)
    assert runner._record(loaded, cell, dataclasses.replace(kept, train_loss=(0.1,))).converged
    record = runner._record(loaded, cell, kept)
    assert not record.converged
    assert record.validation_accuracy == 0.95
    assert record.train_loss == (0.1, None)


def test_each_seed_is_tested_under_noise_of_its_own_and_all_activations_under_the_same():
    # So small a rate leaves the networks as they are: what differs is the noise.
    report = compare_of(
        "digits-convnet",
        data={"spec": "digits", "max_samples": 400},
        sensors=[{"spec": "adc-2bit"}],
        activations=["relu", "leaky_relu(slope=0)"],
        training={"epochs": 1, "learning_rates": [1e-12]},
    )
    packed = {
        (each.activation, each.seed, prediction.point): prediction.correct
        for each in report.training
        for prediction in report.predictions
        if prediction.cell == each.cell
    }
    assert packed["relu", 0, "quantised"] == packed["relu", 1, "quantised"]
    assert packed["relu", 0, "ep=0.5"] != packed["relu", 1, "ep=0.5"]
    # A leaky ReLU that does not leak is ReLU: the comparison of the two is paired to the last bit.
    assert packed["relu", 0, "ep=0.5"] == packed["leaky_relu(slope=0)", 0, "ep=0.5"]


def test_untrained_swaps_are_one_network():
    report = run_study(
        Study.create(
            models=[{"spec": "digits-convnet"}],
            data={"spec": "digits", "max_samples": 200},
            sensors=[{"spec": "adc-4bit"}],
            eps=[0.5],
            activations=["relu", "tanh"],
            draws=4,
            training={"mode": "none"},
        )
    )
    clean, _, noisy = report.results[0].points
    assert [point.point.kind for point in report.results[0].points] == ["clean", "quantised", "ep"]
    assert noisy.comparison.winner is None
    assert noisy.comparison.pairs == ()
    rows = {row.activation: row for row in clean.comparison.rows}
    assert rows["relu"].accuracy > rows["tanh"].accuracy
    assert rows["relu"].networks is None


def test_above_chance_means_beyond_three_standard_errors():
    edge = 0.1 + 3 * stats.binom.std(360, 0.1) / 360
    assert not above_chance(edge - 1e-9, chance=0.1, samples=360)
    assert above_chance(edge + 1e-9, chance=0.1, samples=360)
    assert not above_chance(float("nan"), chance=0.1, samples=360)
