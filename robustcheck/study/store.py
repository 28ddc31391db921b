"""The store of a study: one SQLite file, in which a cell is whole or absent, whatever happens to the process."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from robustcheck.errors import StoreError, StudyMismatchError
from robustcheck.study.differences import require_same_study

SCHEMA_VERSION = 1
FILE_NAME = "study.sqlite"

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE cells (
    hash TEXT PRIMARY KEY, cell TEXT NOT NULL, training TEXT NOT NULL, environment TEXT NOT NULL
) STRICT;
CREATE TABLE predictions (
    hash TEXT NOT NULL REFERENCES cells (hash), point TEXT NOT NULL, draws INTEGER NOT NULL, samples INTEGER NOT NULL,
    predicted BLOB NOT NULL, probability BLOB NOT NULL, PRIMARY KEY (hash, point)
) STRICT;
"""


def holds_another_study(folder: Path, study: dict[str, Any]) -> bool:
    """Whether the store of a folder, if it has one that can be read, is that of another study."""
    path = folder / FILE_NAME
    if not path.is_file():
        return False
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as database:
            row = database.execute("SELECT value FROM meta WHERE name = 'study'").fetchone()
        if row is not None:
            require_same_study(json.loads(row[0]), study, folder)
    except StudyMismatchError:
        return True
    except (sqlite3.Error, ValueError):
        return False
    return False


@dataclass(frozen=True)
class TrainingRecord:
    """How a cell's network was trained; losses that are not finite are None.

    `clean_validation_accuracy` is without noise, of networks that were trained to be ranked.
    """

    learning_rate: float | None
    epochs: int
    best_epoch: int | None
    validation_accuracy: float | None
    converged: bool
    train_loss: tuple[float | None, ...]
    validation_curve: tuple[float, ...]
    clean_validation_accuracy: float | None = None


@dataclass(frozen=True)
class Prediction:
    """Predicted class (draws, samples) int32 and its probability, float32, at one operating point."""

    predicted: NDArray[np.int32]
    probability: NDArray[np.float32]


@dataclass(frozen=True)
class CellResult:
    """What a cell leaves: its training, and its predictions by point (`ep=0.5`, `clean`, `quantised`)."""

    training: TrainingRecord
    predictions: dict[str, Prediction]
    environment: dict[str, Any]


class Store:
    """One study's cells on disk. Open it with `with`; one process writes.

    Raises:
        StoreError: the folder cannot be written, the disk is full, the file is damaged or has a newer schema.
        StudyMismatchError: the folder holds another study.
    """

    def __init__(self, folder: Path, study: dict[str, Any] | None = None) -> None:
        self.path = folder / FILE_NAME
        if study is None and not self.path.is_file():
            raise StoreError(f"{folder}: expected a study's store ({FILE_NAME}), got none")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(self.path, isolation_level=None, timeout=30)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{folder}: cannot write here: {error}; give another --out folder") from error
        try:
            self._open(folder, study)
        except sqlite3.Error as error:
            self._database.close()
            raise StoreError(f"{self.path}: cannot be used: {error}; give another --out folder") from error
        except BaseException:
            self._database.close()
            raise

    def _open(self, folder: Path, study: dict[str, Any] | None) -> None:
        database = self._database
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{self.path}: expected store schema {SCHEMA_VERSION}, got {version}, written by a newer robustcheck; "
                "update robustcheck, or give another --out folder"
            )
        if version == 0:
            if study is None:
                raise StoreError(f"{self.path}: expected a study's store, got an empty file")
            database.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        row = database.execute("SELECT value FROM meta WHERE name = 'study'").fetchone()
        if row is not None and study is not None:
            require_same_study(json.loads(row[0]), study, folder)
        if study is not None:
            database.execute(
                "INSERT INTO meta VALUES ('study', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (json.dumps(study, sort_keys=True),),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def held(self, hashes: Iterable[str]) -> set[str]:
        """Those of the hashes whose cell is in the store."""
        known = {row[0] for row in self._query("SELECT hash FROM cells")}
        return known.intersection(hashes)

    def put(self, hash: str, cell: dict[str, Any], result: CellResult) -> None:
        """Add a cell in one transaction; a cell that is there already stays as it is."""
        rows = [
            (
                hash,
                point,
                *prediction.predicted.shape,
                zlib.compress(prediction.predicted.astype("<u2").tobytes()),
                zlib.compress(prediction.probability.astype("<f4").tobytes()),
            )
            for point, prediction in result.predictions.items()
        ]
        texts = [json.dumps(part, allow_nan=False) for part in (cell, asdict(result.training), result.environment)]
        try:
            self._database.execute("BEGIN IMMEDIATE")
            added = self._database.execute("INSERT OR IGNORE INTO cells VALUES (?, ?, ?, ?)", (hash, *texts))
            if added.rowcount:
                self._database.executemany("INSERT INTO predictions VALUES (?, ?, ?, ?, ?, ?)", rows)
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise StoreError(
                f"{self.path}: cannot store a result: {error}; what was stored before is safe: "
                "free some space or mend the folder, and run the same command again"
            ) from error

    def training(self, hash: str) -> TrainingRecord:
        """How the cell's network was trained."""
        document = json.loads(self._one("SELECT training FROM cells WHERE hash = ?", (hash,))[0])
        document["train_loss"] = tuple(document["train_loss"])
        document["validation_curve"] = tuple(document["validation_curve"])
        return TrainingRecord(**document)

    def environment(self, hash: str) -> dict[str, Any]:
        """Versions, time and duration of the run that made the cell."""
        document: dict[str, Any] = json.loads(self._one("SELECT environment FROM cells WHERE hash = ?", (hash,))[0])
        return document

    def seconds(self) -> float:
        """What all stored cells took together, each in the run that made it."""
        return float(sum(json.loads(row[0])["seconds"] for row in self._query("SELECT environment FROM cells")))

    def prediction(self, hash: str, point: str) -> Prediction:
        """The cell's predictions at one point."""
        draws, samples, predicted, probability = self._one(
            "SELECT draws, samples, predicted, probability FROM predictions WHERE hash = ? AND point = ?", (hash, point)
        )
        return Prediction(
            np.frombuffer(zlib.decompress(predicted), "<u2").reshape(draws, samples).astype(np.int32),
            np.frombuffer(zlib.decompress(probability), "<f4").reshape(draws, samples).astype(np.float32),
        )

    def points(self, hash: str) -> tuple[str, ...]:
        """What the cell holds predictions at, in the order in which they were made."""
        rows = self._query("SELECT point FROM predictions WHERE hash = ? ORDER BY rowid", (hash,))
        return tuple(row[0] for row in rows)

    def _query(self, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._database.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: cannot be read: {error}") from error

    def _one(self, sql: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
        rows = self._query(sql, values)
        if not rows:
            raise StoreError(f"{self.path}: expected a stored cell, got none for {values}")
        return rows[0]
