"""Simulated LIDAR scenes: how many labelled frames a second come from nothing but their ids."""

from __future__ import annotations

import numpy as np
from measuring import paired, spread, use_threads
from table import Row, at_least

from robustcheck.data.lidar_scenes import draw_scenes


def rows(repeats: int = 7, frames: int = 800) -> list[Row]:
    """Wall time from ids to range images and labels: random numbers, solids, and 2048 rays a frame."""
    ids = np.arange(frames)
    found = []
    for threads in (2, 1):
        use_threads(threads)
        times = paired({"draw": lambda: draw_scenes(ids)}, repeats)["draw"]
        promised = at_least(200, 1000) if threads == 2 else (None, None)
        count = "two threads" if threads == 2 else "one thread"
        seconds = spread(times).median
        found.append(
            Row(
                f"`lidar-scenes`, 16 × 128 beams, {count}: labelled frames a second",
                spread(frames / time for time in times),
                "frames/s",
                *promised,
                f"{frames} frames in {seconds:.2g} s",
            )
        )
    return found
