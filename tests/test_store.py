"""The store: whole cells or none, and every way a folder can refuse."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from robustcheck.errors import StoreError, StudyMismatchError
from robustcheck.study.store import FILE_NAME, CellResult, Prediction, Store, TrainingRecord

STUDY = {"seeds": 5, "draws": 2}


def result(seed=0):
    rng = np.random.default_rng(seed)
    predictions = {
        point: Prediction(rng.integers(0, 1000, (2, 7)).astype(np.int32), rng.random((2, 7)).astype(np.float32))
        for point in ("clean", "ep=0.5")
    }
    record = TrainingRecord(1e-3, 2, 1, 0.9, True, (1.5, None), (0.8, 0.9))
    return CellResult(record, predictions, {"versions": {"torch": "2"}, "seconds": 1.0})


def test_a_cell_comes_back_as_it_went_in(tmp_path):
    given = result()
    with Store(tmp_path, STUDY) as store:
        store.put("a", {"seed": 0}, given)
    with Store(tmp_path) as store:
        assert store.held(["a", "b"]) == {"a"}
        assert store.training("a") == given.training
        assert store.environment("a") == given.environment
        for point, prediction in given.predictions.items():
            found = store.prediction("a", point)
            assert np.array_equal(found.predicted, prediction.predicted)
            assert np.array_equal(found.probability, prediction.probability)


def test_a_cell_that_is_there_stays(tmp_path):
    with Store(tmp_path, STUDY) as store:
        store.put("a", {}, result(0))
        store.put("a", {}, result(1))
        assert np.array_equal(store.prediction("a", "clean").predicted, result(0).predictions["clean"].predicted)


def test_a_cell_that_fails_half_way_leaves_nothing(tmp_path):
    with Store(tmp_path, STUDY) as store:
        store._database.execute(
            "CREATE TRIGGER full BEFORE INSERT ON predictions BEGIN SELECT RAISE(FAIL, 'disk'); END"
        )
        with pytest.raises(StoreError, match=r"cannot store a result: disk; what was stored before is safe"):
            store.put("a", {}, result())
        assert store.held(["a"]) == set()
        store._database.execute("DROP TRIGGER full")
        store.put("a", {}, result())
        assert store.held(["a"]) == {"a"}


def test_a_full_disk_is_said_so(tmp_path):
    with Store(tmp_path, STUDY) as store:
        pages = store._database.execute("PRAGMA page_count").fetchone()[0]
        store._database.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreError, match=r"full.*free some space"):
            store.put("a", {"note": "x" * 100_000}, result())
        assert store.held(["a"]) == set()


def test_another_study_is_refused(tmp_path):
    with Store(tmp_path, STUDY):
        pass
    with pytest.raises(StudyMismatchError, match="draws"):
        Store(tmp_path, {**STUDY, "draws": 3})
    with Store(tmp_path, {**STUDY, "seeds": 9}):
        pass


def test_a_newer_schema_is_refused(tmp_path):
    with Store(tmp_path, STUDY):
        pass
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="schema 1, got 99, written by a newer robustcheck"):
        Store(tmp_path, STUDY)


def test_a_file_that_is_no_store_is_refused(tmp_path):
    (tmp_path / FILE_NAME).write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError, match="cannot be used"):
        Store(tmp_path, STUDY)


def test_no_store_where_one_is_expected(tmp_path):
    with pytest.raises(StoreError, match="got none"):
        Store(tmp_path)


def test_a_read_only_file_system_is_refused():
    # /proc refuses new folders to root too.
    with pytest.raises(StoreError, match=r"cannot write here.*give another --out folder"):
        Store(Path("/proc/robustcheck"), STUDY)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write here"):
        Store(tmp_path / "file" / "out", STUDY)
