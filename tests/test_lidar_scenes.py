"""The simulated scenes: what they say they are, and that each depends on nothing but its id."""

from __future__ import annotations

import hashlib

import numba
import numpy as np
import pytest
import torch

from robustcheck.cli.main import main
from robustcheck.data.datasets import Dataset, load_data
from robustcheck.data.lidar_objects import DRAWS, EXTENT_M, REACH_M, THINGS, things
from robustcheck.data.lidar_scenes import (
    CLASSES,
    LEAST_RETURNS,
    SAMPLES_A_CLASS,
    all_scenes,
    beam_directions,
    draw_scenes,
)
from robustcheck.data.ray_casting import CUBE, NOTHING
from robustcheck.errors import UsageError
from robustcheck.sensing.lidar_geometry import points_of
from robustcheck.sensing.lidar_profile import LidarProfile
from robustcheck.sensing.profile import load_sensor

HASH = "e665fdea07a942d74690372efac6af5f8b4b4b61276eb2c5d80d53e178dbf15b"


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_data("lidar-scenes")


def vlp16() -> LidarProfile:
    profile = load_sensor("lidar-vlp16")
    assert isinstance(profile, LidarProfile)
    return profile


def test_the_data_set_is_what_it_says(data: Dataset) -> None:
    assert data.classes == CLASSES == ("car", "van", "pedestrian", "cyclist", "pole", "wall", "tree", "bush")
    assert (data.shape, data.modality, data.fixed_test) == ((2, 16, 128), "range", False)
    counts = sum(split.labels.bincount() for split in data.splits.values())
    assert counts.tolist() == [SAMPLES_A_CLASS] * 8
    assert data.chance == pytest.approx(1 / 8)
    assert "simulated" in data.source
    assert "no substitute for a real set" in data.notes[0]
    images = torch.cat([split.images for split in data.splits.values()])
    ranges, intensity = images[:, 0] * 128, images[:, 1] * 255
    assert images.dtype == torch.float32
    assert ranges.max() <= 100
    assert (intensity[ranges == 0] == 0).all()
    assert (intensity[ranges > 0] > 0).all()
    assert 0.6 < (ranges > 0).float().mean() < 0.85
    # Matt surfaces end at code 100; plates, signs and reflectors lie beyond, and are few.
    assert 0.0005 < (intensity > 100).float().mean() < 0.01
    assert intensity.max() <= 240


def test_the_hash_is_pinned(data: Dataset) -> None:
    # It enters every cell's identity, and the shipped LIDAR models were trained on these numbers.
    assert data.sha256 == HASH


def test_a_scene_depends_on_its_id_alone_and_on_no_thread() -> None:
    ids = np.array([9, 3, 4000, 17, 2**40])
    drawn = draw_scenes(ids)
    assert [CLASSES[label] for label in drawn.labels] == [CLASSES[i % 8] for i in ids]
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        again = draw_scenes(ids[::-1].copy())
    finally:
        numba.set_num_threads(threads)
    assert again.images[::-1].tobytes() == drawn.images.tobytes()
    assert draw_scenes(ids[1:2]).images.tobytes() == drawn.images[1].tobytes()
    assert len({hashlib.sha256(image.tobytes()).digest() for image in drawn.images}) == 5


def test_enough_scenes_of_each_class_are_drawn() -> None:
    scenes = all_scenes()
    assert scenes.returns.min() >= LEAST_RETURNS
    assert (np.diff(scenes.sample_ids) > 0).all()
    assert np.bincount(scenes.labels).tolist() == [SAMPLES_A_CLASS] * 8
    typical = [np.median(scenes.returns[scenes.labels == label]) for label in range(8)]
    by_size = dict(zip(CLASSES, typical, strict=True))
    assert by_size["van"] > by_size["car"] > by_size["cyclist"]
    assert by_size["van"] > by_size["pole"]


def test_the_rays_are_those_of_the_beam_table() -> None:
    """`points_of` turns ranges of 1 m into the same directions."""
    profile = vlp16()
    image = torch.full((1, 2, 16, 128), 1 / 128, dtype=torch.float64)
    points = points_of(image, profile.elevation_deg.values, profile.azimuth_step_deg.value)[0, :, :3]
    np.testing.assert_allclose(beam_directions(profile), points.numpy(), atol=1e-12)


def test_the_ground_lies_where_the_height_and_tilt_of_the_sensor_put_it() -> None:
    """The lowest beams look at nearly level ground 1.7 to 1.9 m below; what stands there is nearer."""
    scenes = draw_scenes(np.arange(0, 400))
    profile = vlp16()
    images = torch.from_numpy(scenes.images).permute(0, 3, 1, 2)
    points = points_of(images, profile.elevation_deg.values, profile.azimuth_step_deg.value).reshape(-1, 16, 128, 4)
    lowest = points[:, -1, :, :3]
    # A plane through all of the lowest row, where nothing stands in it: residuals are those of float32.
    flat = 0
    for row in lowest.double():
        normal = torch.linalg.lstsq(row, torch.ones(128, 1, dtype=torch.float64)).solution[:, 0]
        distance = 1 / normal.norm()
        if ((row @ normal - 1).abs() < 1e-4).all() and -normal[2] * distance > 0.9:
            flat += 1
            assert 1.69 < distance < 1.91
            assert torch.rad2deg(torch.acos(-normal[2] * distance)) < 2.2
    assert flat > 150


def test_the_labelled_thing_stands_near_the_middle_at_its_distance() -> None:
    """The median of its returns: within 2° of the middle of the window where nothing hides a part of it."""
    scenes = draw_scenes(np.arange(800))
    seen = scenes.returns >= LEAST_RETURNS
    assert seen.mean() > 0.85
    pedestrians = scenes.images[seen & (scenes.labels == CLASSES.index("pedestrian"))]
    # Something stands in the middle columns, above the ground's −1.8 m, within the reach of pedestrians and a step.
    elevation = np.radians(vlp16().elevation_deg.values)[:, None]
    ranges = pedestrians[..., 0] * 128
    heights = ranges * np.sin(elevation)
    middle = (heights > -1.4) & (ranges > 2) & (ranges < REACH_M[2] + 2) & (heights < 0.6)
    assert middle[:, :, 52:76].any(axis=(1, 2)).mean() > 0.97


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for kind, name in enumerate(THINGS)])
def test_things_have_the_size_of_their_kind(name: str, kind: int) -> None:
    """Corners of all solids, turned: the thing stands on the ground and is as large as such things are [m]."""
    limits = {
        "car": (3.7, 5.0, 1.4, 1.65), "van": (4.8, 6.1, 1.95, 2.6), "pedestrian": (0.35, 1.0, 1.5, 2.0),
        "cyclist": (1.5, 1.9, 1.5, 1.8), "pole": (0.08, 0.75, 2.5, 7.0), "wall": (4.0, 12.0, 0.9, 2.2),
        "tree": (1.0, 6.5, 2.2, 7.5), "bush": (0.5, 3.8, 0.4, 2.4),
    }[name]  # fmt: skip
    count = 200
    solids = things(np.full(count, kind), np.random.default_rng(kind).random((count, DRAWS)))
    assert (solids.shapes != NOTHING).all()
    np.testing.assert_allclose(
        np.einsum("nsji,nsjk->nsik", solids.turn, solids.turn),
        np.broadcast_to(np.eye(3), solids.turn.shape),
        atol=1e-12,
    )
    # Half the width of a solid along an axis of the frame: of a box Σ|turn|·half, of a round one no more than that.
    box = np.einsum("nsij,nsj->nsi", abs(solids.turn), solids.half)
    ball = np.sqrt(np.einsum("nsij,nsj->nsi", solids.turn**2, solids.half**2))
    reach = np.where((solids.shapes == CUBE)[..., None], box, ball)
    low, high = (solids.centre - reach).min(axis=1), (solids.centre + reach).max(axis=1)
    length = (high - low)[:, :2].max(axis=1)
    assert limits[0] <= length.min() <= length.max() <= limits[1] + 0.1
    assert limits[2] <= high[:, 2].min() <= high[:, 2].max() <= limits[3] + 0.1
    assert abs(low[:, 2]).max() < 0.45
    assert 0.3 < EXTENT_M[kind] / (length.mean() / 2) < 1.7
    assert (solids.reflectivity > 0).all()
    assert (solids.reflectivity[solids.reflectivity > 1] <= 2.4).all()


def test_show_describes_range_images(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", "lidar-scenes", "--max-samples", "100"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "16×128 (beams×columns), range / 128 m and intensity / 255, float32" in text
    assert "simulated" in text
    assert main(["data", "show", "lidar-scenes", "--resize", "8x8"]) == 2
    assert "--resize: expected range images to keep their size" in capsys.readouterr().err
    with pytest.raises(UsageError, match="expected 'lidar-scenes'"):
        load_data("lidar-scenes:big")
