"""The LIDAR alone: a frame of 64 beams and 1,024 columns sensed, with all that the part's profile has."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from measuring import paired, spread, use_threads
from table import Row, at_most

from robustcheck.sensing import lidar
from robustcheck.sensing.lidar_profile import LidarProfile
from robustcheck.sensing.profile import load_sensor

COLUMNS = 1024
SIGNALS = {"clear air": 1.0, "3 % of the signal": 0.03}
PROMISED = "lidar-os1-64"
HEIGHT_M, WALL_M = 1.8, 60.0


def frame(profile: LidarProfile, columns: int = COLUMNS) -> torch.Tensor:
    """Ground, a wall behind it and the sky above it: (1, 2, beams, columns)."""
    elevation = torch.deg2rad(torch.tensor(profile.elevation_deg.values))
    ground = HEIGHT_M / torch.sin(-elevation).clamp_min(HEIGHT_M / WALL_M)
    ranges = torch.where(elevation > math.radians(5), 0.0, ground).unsqueeze(1).expand(-1, columns)
    codes = 5 + torch.rand(ranges.shape, generator=torch.Generator().manual_seed(0)) * 50
    return torch.stack((ranges / lidar.RANGE_SCALE_M, codes / 255 * (ranges > 0))).unsqueeze(0)


def contestants(columns: int = COLUMNS) -> dict[str, Callable[[], torch.Tensor]]:
    """One frame of each part in each air, by name."""
    calls = {}
    for name in (PROMISED, "lidar-hdl64e"):
        profile = load_sensor(name)
        assert isinstance(profile, LidarProfile)
        image, ids = frame(profile, columns), torch.zeros(1, dtype=torch.int64)
        for air, signal in SIGNALS.items():
            setting = lidar.lidar_setting(profile, signal=signal)
            calls[f"{name}, {air}"] = _sensing(image, setting, ids)
    return calls


def _sensing(image: torch.Tensor, setting: lidar.LidarSetting, ids: torch.Tensor) -> Callable[[], torch.Tensor]:
    return lambda: lidar.sense(image, setting, 0, "bench", ids, 0)


def rows(repeats: int = 101, columns: int = COLUMNS) -> list[Row]:
    """Wall time of one frame, without gradients; torch and the kernel have as many threads as the row says."""
    found = []
    for threads, count in ((2, "two threads"), (1, "one thread")):
        use_threads(threads)
        for what, seconds in paired(contestants(columns), repeats, time.perf_counter).items():
            promised = at_most(5, 2) if threads == 2 and what.startswith(PROMISED) else (None, None)
            found.append(
                Row(f"64 × {columns:,} frame, {what}, {count}", spread(1000 * s for s in seconds), "ms", *promised)
            )
    return found
