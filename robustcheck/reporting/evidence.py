"""What is behind the numbers: confusions, samples as the sensor delivers them, what the noise of each site costs."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from robustcheck.analysis.intervals import sample_interval
from robustcheck.reporting import evidence_record as doc
from robustcheck.reporting.describe import model_key
from robustcheck.reporting.record import Interval
from robustcheck.sensing.channel import Channel
from robustcheck.sensing.sensor import Sensor
from robustcheck.study.cells import SITE, Cell, LoadedStudy, noisiest, points
from robustcheck.study.store import Store

if TYPE_CHECKING:
    from robustcheck.sensing.operating_point import OperatingPoint

_MOST_SAMPLES = 6
_MOST_POINTS = 7
_MOST_VALUES = 400_000
"""Of all pictures of a report together: what their PNGs take on a page."""

Counts = NDArray[np.int64]


def confusions(loaded: LoadedStudy, store: Store, cells: Sequence[Cell]) -> Iterator[doc.Confusion]:
    """For each model, sensor and activation what was taken for what, at the point where it is least accurate.

    Args:
        loaded: the study.
        store: holds the cells.
        cells: those that are there.
    """
    labels, classes = loaded.data.test.labels.numpy(), len(loaded.data.classes)
    for (model, sensor, spec), mine in _by_contestant(cells).items():
        at: dict[str, list[Cell]] = {}
        for cell in mine:
            for name, point in points(cell.contestant).items():
                if point is not None and point.noisy:
                    at.setdefault(name, []).append(cell)
        if not at:
            continue

        def predicted(name: str, at: dict[str, list[Cell]] = at) -> NDArray[np.int32]:
            return np.concatenate([store.prediction(loaded.hash(cell), name).predicted for cell in at[name]])

        worst, taken = min(((name, predicted(name)) for name in at), key=lambda each: float((each[1] == labels).mean()))
        matrix = confusion_matrix(labels, taken, classes)
        yield doc.Confusion(
            model=model_key(loaded, model),
            sensor=loaded.sensors[sensor].key,
            activation=spec or "as is",
            point=worst,
            predictions=int(matrix.sum()),
            entries=_entries(matrix),
        )


def confusion_matrix(labels: NDArray[np.int64], predicted: NDArray[np.int32], classes: int) -> Counts:
    """How often each class, by row, was taken for each class, by column.

    Args:
        labels: (samples,), the true classes.
        predicted: (draws, samples).
        classes: how many there are.

    Returns:
        (classes, classes) int64.

    >>> confusion_matrix(np.array([0, 1]), np.array([[0, 0], [0, 1]], dtype=np.int32), 2)
    array([[2, 0],
           [1, 1]])
    """
    flat = np.broadcast_to(labels, predicted.shape).astype(np.int64) * classes + predicted
    return np.bincount(flat.ravel(), minlength=classes**2).reshape(classes, classes)


def _entries(matrix: Counts) -> tuple[tuple[int, int, int], ...]:
    """(true, predicted, count), the most frequent first; of many classes only what was mistaken."""
    true, taken = np.nonzero(matrix)
    found = [(int(a), int(b), int(matrix[a, b])) for a, b in zip(true, taken, strict=True)]
    if len(matrix) ** 2 > doc.MOST_ENTRIES:
        found = [each for each in found if each[0] != each[1]]
    return tuple(sorted(found, key=lambda each: (-each[2], each[0], each[1]))[: doc.MOST_ENTRIES])


def examples(loaded: LoadedStudy, store: Store, cells: Sequence[Cell]) -> Iterator[doc.Examples]:
    """For each model and sensor some test samples as the sensor delivers them, and what one network takes them for.

    The samples are the first of different classes; the network is the first of the model's own activation, else of the
    first contestant, and sees just these pictures in its first draw. Of a large image the middle is shown.
    """
    firsts: dict[tuple[int, int], list[Cell]] = {}
    for (model, sensor, spec), mine in _by_contestant(cells).items():
        if (model, sensor) not in firsts or spec == loaded.current[model]:
            firsts[model, sensor] = [cell for cell in mine if cell.seed == mine[0].seed]
    room = _MOST_VALUES // max(1, len(firsts))
    for (model, sensor), mine in firsts.items():
        shown = _shown_points(mine)
        if shown:
            yield _examples(loaded, store, model, loaded.sensors[sensor], shown, room)


def _shown_points(cells: Sequence[Cell]) -> list[tuple[Cell, str, OperatingPoint | None]]:
    """Clean and up to seven noisy points, evenly spread over those of the study."""
    found = [(cell, name, point) for cell in cells for name, point in points(cell.contestant).items()]
    clean = [each for each in found if each[1] == "clean"][:1]
    noisy = [each for each in found if each[2] is not None and each[2].noisy]
    kept = np.unique(np.linspace(0, len(noisy) - 1, min(len(noisy), _MOST_POINTS)).round().astype(int))
    return clean + [noisy[index] for index in kept.tolist()]


def _examples(
    loaded: LoadedStudy,
    store: Store,
    model: int,
    sensor: Sensor,
    shown: Sequence[tuple[Cell, str, OperatingPoint | None]],
    room: int,
) -> doc.Examples:
    test = loaded.data.test
    channels, height, width = loaded.data.shape
    values = channels * min(height, doc.MOST_SIDE) * min(width, doc.MOST_SIDE) * len(shown)
    rows = _of_different_classes(test.labels.tolist(), min(_MOST_SAMPLES, max(1, room // values)))
    images, ids = test.physical(torch.tensor(rows)), test.sample_ids[rows]
    samples: list[list[doc.Picture]] = [[] for _ in rows]
    for cell, name, point in shown:
        delivered = images if point is None else Channel(sensor, point, cell.seed)(images, ids, 0)
        predicted = store.prediction(loaded.hash(cell), name).predicted[0]
        for picture, row, image in zip(samples, rows, delivered, strict=True):
            picture.append(doc.Picture(point=name, taken_for=int(predicted[row]), png=_png(image)))
    return doc.Examples(
        model=model_key(loaded, model),
        sensor=sensor.key,
        activation=shown[0][0].contestant.activation or "as is",
        samples=tuple(
            doc.Example(sample_id=int(test.sample_ids[row]), label=int(test.labels[row]), pictures=tuple(pictures))
            for row, pictures in zip(rows, samples, strict=True)
        ),
    )


def _of_different_classes(labels: Sequence[int], count: int) -> list[int]:
    """The first sample of each of the first classes that come."""
    first: dict[int, int] = {}
    for row, label in enumerate(labels):
        first.setdefault(label, row)
        if len(first) == count:
            break
    return list(first.values())


def _png(image: torch.Tensor) -> str:
    """The middle of an image (c, h, w) in [0, 1] as a PNG, base64; of other than three channels the first, as greys."""
    from PIL import Image

    height, width = image.shape[1:]
    top, left = max(0, height - doc.MOST_SIDE) // 2, max(0, width - doc.MOST_SIDE) // 2
    image = image[: 3 if len(image) == 3 else 1, top : top + doc.MOST_SIDE, left : left + doc.MOST_SIDE]
    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0]).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode("ascii")


def sensitivities(loaded: LoadedStudy, store: Store, cells: Sequence[Cell]) -> Iterator[doc.Sensitivity]:
    """For each model, sensor and activation the accuracy with noise at one site alone, the costliest site first.

    Where networks are trained for each operating point, those of the noisiest are shown.
    """
    looked = [cell for cell in cells if loaded.looks_at_sites(cell)]
    labels = loaded.data.test.labels.numpy()
    for (model, sensor, spec), mine in _by_contestant(looked).items():
        bound = loaded.sensors[sensor]
        at = {cell: noisiest(cell.contestant, bound) for cell in mine}
        harshest = max(at.values(), key=lambda point: Channel(bound, point).reading.sigma or 0.0)
        here = [cell for cell in mine if at[cell] == harshest]

        def correct(name: str, here: Sequence[Cell] = here) -> list[NDArray[np.bool_]]:
            return [np.asarray(store.prediction(loaded.hash(cell), name).predicted == labels) for cell in here]

        sites = []
        for name in store.points(loaded.hash(here[0])):
            if name.startswith(SITE):
                found = correct(name)
                lower, upper = sample_interval(found, draws_are_clusters=True)
                accuracy = float(np.mean([each.mean() for each in found]))
                site = name.removeprefix(SITE)
                sites.append(doc.SiteCost(site=site, accuracy=accuracy, samples=Interval(lower=lower, upper=upper)))
        yield doc.Sensitivity(
            model=model_key(loaded, model),
            sensor=bound.key,
            activation=spec or "as is",
            point=harshest.name,
            clean=float(np.mean([each.mean() for each in correct("clean")])),
            everywhere=float(np.mean([each.mean() for each in correct(harshest.name)])),
            sites=tuple(sorted(sites, key=lambda each: each.accuracy)),
        )


def _by_contestant(cells: Sequence[Cell]) -> dict[tuple[int, int, str], list[Cell]]:
    """Cells by model, sensor and activation, in the order of the report."""
    found: dict[tuple[int, int, str], list[Cell]] = {}
    for cell in cells:
        who = cell.contestant
        found.setdefault((who.model, who.sensor, who.activation), []).append(cell)
    return found
