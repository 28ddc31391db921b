"""The parts of a report that show what is behind its numbers."""

from __future__ import annotations

from pydantic import Field

from robustcheck.reporting.record import Interval, Record

MOST_SIDE = 64
"""Pixels of a picture's side; of a larger image the middle is kept."""

MOST_ENTRIES = 1024
"""Of a confusion matrix: all of up to 32 classes, else the most frequent mistakes."""


class Confusion(Record):
    """What one activation's networks took for what, at the operating point where they are least accurate."""

    model: str
    sensor: str
    activation: str
    point: str = Field(description="its name, as in `Predictions`")
    predictions: int = Field(description="how many there are in all: networks, draws and test samples")
    entries: tuple[tuple[int, int, int], ...] = Field(
        description="true class, predicted class, how often; the most frequent first. All of them up to 32 classes, "
        "else the 1024 most frequent mistakes",
        max_length=MOST_ENTRIES,
    )


class Picture(Record):
    """A sample as the sensor delivers it in a network's first draw."""

    point: str
    taken_for: int = Field(description="the class that the network predicts from it")
    png: str = Field(
        description="base64; the middle 64 × 64 pixels of a larger image",
        max_length=2**18,
        pattern=r"^[A-Za-z0-9+/]+=*$",
    )


class Example(Record):
    """A test sample at several operating points."""

    sample_id: int
    label: int
    pictures: tuple[Picture, ...]


class Examples(Record):
    """Some test samples behind one sensor, and what one network takes them for."""

    model: str
    sensor: str
    activation: str
    samples: tuple[Example, ...]


class SiteCost(Record):
    """The accuracy with noise at one site alone."""

    site: str = Field(description="`image`, or the path of a layer")
    accuracy: float
    samples: Interval = Field(description="over test samples and draws: these networks only")


class Sensitivity(Record):
    """What the noise of each site costs one activation's networks by itself."""

    model: str
    sensor: str
    activation: str
    point: str = Field(description="the noisiest operating point")
    clean: float = Field(description="with no noise anywhere")
    everywhere: float = Field(description="with noise at every site")
    sites: tuple[SiteCost, ...] = Field(description="the costliest first", min_length=1)
