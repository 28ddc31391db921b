"""The albumentations transform: the channel's own codes, seeds, replay, serialisation, dtypes and shapes."""

from __future__ import annotations

import json
import pickle

import albumentations as A
import numpy as np
import pytest
import torch
from scipy import stats

from robustcheck import content
from robustcheck.errors import InvalidValueError, UnknownNameError, UsageError
from robustcheck.sensing.augment import SensorNoise
from robustcheck.sensing.channel import channel
from robustcheck.sensing.optics import exposure_of_lux
from robustcheck.sensing.point_range import PointRange
from robustcheck.sensing.profile import load_sensor

CAMERA = {"profile": "camera-imx477", "exposure": 0.1}
SETTINGS = {
    "converter": {"profile": "adc-4bit", "ep": 0.5},
    "camera by exposure": CAMERA | {"device_seed": 3, "seed": 5},
    "camera by ep": {"profile": "camera-imx477", "ep": 0.9},
    "camera, 8 bits": CAMERA | {"bits": 8, "settings": {"read_noise_e": 5.0}},
    "camera, hdr and colour filter": {"profile": "camera-ox03c10", "exposure": 0.01},
    "camera by a range of exposures": {"profile": "camera-imx477", "exposure": (0.01, 0.5), "seed": 5},
    "camera by a range of eps": {"profile": "camera-imx477", "ep": [0.9, 0.95]},
    "camera by light": {"profile": "camera-imx477", "lux": 50},
    "camera by a range of light": {"profile": "camera-imx477", "lux": (5, 50)},
    "camera by a named point": {"profile": "camera-imx477", "point": "night"},
    "converter by a range of eps": {"profile": "adc-4bit", "ep": (0.2, 0.8)},
}


def picture(*shape: int, dtype: str = "uint8") -> np.ndarray:
    generator = np.random.default_rng(0)
    if dtype == "uint8":
        return generator.integers(0, 256, shape, dtype=np.uint8)
    return generator.random(shape, dtype=np.float32)


def sample_id_of(transform: SensorNoise) -> int:
    return transform.get_applied_params()["sample_id"]


def tensor_of(image: np.ndarray) -> torch.Tensor:
    """(h, w, c) to (1, c, h, w), uint8 as shares of 255."""
    values = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
    return values / 255 if image.dtype == np.uint8 else values


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("name", SETTINGS)
def test_the_codes_are_those_of_the_channel(name, dtype):
    image = picture(12, 10, 3, dtype=dtype)
    transform = SensorNoise(**SETTINGS[name])
    given = transform(image=image)["image"]
    arguments = {key: value for key, value in SETTINGS[name].items() if key not in ("lux", "point")}
    drawn = {key: value for key, value in transform.get_applied_params().items() if key in ("ep", "exposure")}
    assert len(drawn) == 1
    sensed = channel(arguments.pop("profile"), **arguments | drawn)(
        tensor_of(image), torch.tensor([sample_id_of(transform)]), 0
    )  # fmt: skip
    expected = sensed[0].permute(1, 2, 0).numpy()
    if dtype == "uint8":
        expected = np.rint(expected * 255).astype(np.uint8)
    assert given.dtype == image.dtype
    assert given.flags.c_contiguous
    np.testing.assert_array_equal(given, expected)
    assert not np.array_equal(given, image)


def test_a_lidar_takes_range_images():
    image = picture(16, 40, 2, dtype="float32")
    transform = SensorNoise("lidar-vlp16", signal=0.5, device_seed=1)
    given = transform(image=image)["image"]
    expected = channel("lidar-vlp16", signal=0.5, device_seed=1)(
        tensor_of(image), torch.tensor([sample_id_of(transform)]), 0
    )  # fmt: skip
    np.testing.assert_array_equal(given, expected[0].permute(1, 2, 0).numpy())
    with pytest.raises(InvalidValueError, match="dtype: expected float32, got 'uint8'"):
        transform(image=picture(16, 40, 2))


@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 1), (9, 7, 3)])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_shapes_are_kept_and_the_image_is_not_changed(shape, dtype):
    image = picture(*shape, dtype=dtype)
    before = image.copy()
    image.setflags(write=False)
    given = A.Compose([SensorNoise(**CAMERA)], seed=0)(image=image)["image"]
    assert given.shape == shape
    assert given.dtype == image.dtype
    np.testing.assert_array_equal(image, before)


def test_two_dimensions_are_one_channel():
    image = picture(9, 7)
    flat, deep = (A.Compose([SensorNoise(**CAMERA)], seed=0)(image=one)["image"] for one in (image, image[..., None]))
    np.testing.assert_array_equal(flat, deep[..., 0])


def test_a_fixed_seed_gives_the_same_bytes_and_each_call_its_own_noise():
    image = picture(8, 8, 3)
    first, second, third = (A.Compose([SensorNoise(**CAMERA)], seed=seed) for seed in (7, 7, 8))
    of_first = [first(image=image)["image"] for _ in range(3)]
    of_second = [second(image=image)["image"] for _ in range(3)]
    np.testing.assert_array_equal(of_first, of_second)
    assert not np.array_equal(of_first[0], of_first[1])
    assert not np.array_equal(of_first[0], third(image=image)["image"])
    second.set_random_seed(7)
    np.testing.assert_array_equal(second(image=image)["image"], of_first[0])


def test_the_seed_of_the_sensor_is_another_one():
    image = picture(8, 8, 3)
    given = [A.Compose([SensorNoise(**CAMERA, seed=seed)], seed=0)(image=image)["image"] for seed in (0, 1)]
    assert not np.array_equal(*given)


def test_the_device_stays_while_the_noise_changes():
    quiet = {"read_noise_e": 0, "row_noise_e": 0, "prnu": 0.2, "full_well_e": 1e8, "gain_dn_per_e": 4e-6}
    flat = np.full((32, 32, 1), 0.5, dtype=np.float32)
    transform = SensorNoise("camera-imx477", exposure=0.9, settings=quiet)
    maps = [transform(image=flat)["image"].ravel() for _ in range(2)]
    assert np.corrcoef(maps)[0, 1] > 0.99
    other = SensorNoise("camera-imx477", exposure=0.9, settings=quiet, device_seed=1)(image=flat)["image"].ravel()
    assert abs(np.corrcoef(maps[0], other)[0, 1]) < 0.2


@pytest.mark.parametrize("shape", [(4, 8, 6), (4, 8, 6, 3)])
@pytest.mark.parametrize("target", ["images", "volume"])
def test_frames_are_draws_of_one_sample(target, shape):
    frames = np.repeat(picture(1, *shape[1:]), 4, axis=0)
    transform = SensorNoise("adc-4bit", ep=0.5)
    given = A.Compose([transform], seed=0)(**{target: frames})[target]
    assert given.shape == shape
    planes = frames if len(shape) == 4 else frames[..., None]
    batch = torch.cat([tensor_of(frame) for frame in planes])
    ids = torch.full((4,), sample_id_of(transform), dtype=torch.int64)
    expected = channel("adc-4bit", ep=0.5)(batch, ids, torch.arange(4)).permute(0, 2, 3, 1).reshape(shape).numpy()
    np.testing.assert_array_equal(given, np.rint(expected * 255).astype(np.uint8))
    assert not np.array_equal(given[0], given[1])


def test_images_given_as_a_list_and_several_volumes():
    frames = [picture(8, 6, 3)] * 3
    listed = A.Compose([SensorNoise(**CAMERA)], seed=0)(images=frames)["images"]
    stacked = A.Compose([SensorNoise(**CAMERA)], seed=0)(images=np.stack(frames))["images"]
    np.testing.assert_array_equal(np.stack(listed), stacked)
    volumes = np.stack([np.stack(frames)] * 2)
    given = A.Compose([SensorNoise(**CAMERA)], seed=0)(volumes=volumes)["volumes"]
    assert given.shape == volumes.shape
    assert len(np.unique(given.reshape(6, -1), axis=0)) == 6


def test_masks_boxes_and_targets_that_were_added():
    pipeline = A.Compose(
        [A.HorizontalFlip(p=0), SensorNoise(**CAMERA)],
        bbox_params=A.BboxParams("pascal_voc", label_fields=["labels"]),
        additional_targets={"right": "image"},
        strict=True,
        seed=0,
    )
    image, mask = picture(16, 16, 3), picture(16, 16)
    given = pipeline(image=image, right=image, mask=mask, bboxes=[[1, 2, 9, 9]], labels=[1])
    np.testing.assert_array_equal(given["mask"], mask)
    np.testing.assert_array_equal(given["image"], given["right"])
    assert np.asarray(given["bboxes"]).tolist() == [[1, 2, 9, 9]]


def test_it_is_applied_to_every_image_unless_told():
    assert SensorNoise(**CAMERA).p == 1
    image = picture(4, 4, 3)
    half = A.Compose([SensorNoise(**CAMERA, p=0.5)], seed=0)
    applied = [not np.array_equal(half(image=image)["image"], image) for _ in range(200)]
    assert 70 < sum(applied) < 130


def test_it_can_be_replayed():
    image = picture(8, 8, 3)
    replayed = A.ReplayCompose([A.HorizontalFlip(p=0.5), SensorNoise(**CAMERA, seed=5, p=0.5)])
    replayed.set_random_seed(3)
    for _ in range(4):
        given = replayed(image=image)
        np.testing.assert_array_equal(A.ReplayCompose.replay(given["replay"], image=image)["image"], given["image"])


@pytest.mark.parametrize("name", SETTINGS)
def test_a_dictionary_gives_the_same_transform(name):
    image = picture(8, 8, 3)
    pipeline = A.Compose([SensorNoise(**SETTINGS[name], p=0.75)], seed=2)
    restored = A.from_dict(A.to_dict(pipeline))
    restored.set_random_seed(2)
    assert A.to_dict(restored)["transform"]["transforms"] == A.to_dict(pipeline)["transform"]["transforms"]
    for _ in range(3):
        np.testing.assert_array_equal(restored(image=image)["image"], pipeline(image=image)["image"])


@pytest.mark.parametrize("data_format", ["json", "yaml"])
@pytest.mark.parametrize("exposure", [0.2, (0.2, 0.5)])
def test_files_keep_every_argument(data_format, exposure, tmp_path):
    arguments = {"profile": "camera-imx477", "ep": None, "exposure": exposure, "lux": None, "signal": None}
    arguments |= {"point": None, "bits": 9.5}
    arguments |= {"settings": {"read_noise_e": 5.0}, "device_seed": 3, "seed": 4, "p": 0.25}
    A.save(A.Compose([SensorNoise(**arguments)]), tmp_path / "pipeline", data_format=data_format)
    (restored,) = A.load(tmp_path / "pipeline", data_format=data_format).transforms
    assert restored.to_dict_private() == {"__class_fullname__": "robustcheck.sensing.augment.SensorNoise"} | arguments


def test_a_profile_by_path_or_record(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes((content.shelf("sensors") / "camera-imx477.toml").read_bytes())
    image = picture(8, 8, 3)
    by_name, by_path, by_text, by_record = (
        SensorNoise(profile, exposure=0.1)
        for profile in ("camera-imx477", path, str(path), load_sensor("camera-imx477"))
    )
    for transform in (by_name, by_path, by_text, by_record):
        transform.set_random_seed(0)
    expected = by_name(image=image)["image"]
    for transform in (by_path, by_text, by_record):
        np.testing.assert_array_equal(transform(image=image)["image"], expected)
    assert by_path.to_dict_private()["profile"] == str(path)
    with pytest.raises(UsageError, match="given by its name or path, got the record of 'camera-imx477', which cannot"):
        A.to_dict(A.Compose([by_record]))
    assert "profile='camera-imx477'" in repr(by_record)


def test_workers_get_a_copy():
    image = picture(8, 8, 3)
    pipeline = A.Compose([SensorNoise(**CAMERA)], seed=1)
    copied = pickle.loads(pickle.dumps(pipeline))
    np.testing.assert_array_equal(copied(image=image)["image"], pipeline(image=image)["image"])


def test_without_an_operating_point_it_rounds_alone():
    image = picture(8, 8, 3)
    given = SensorNoise("adc-8bit")(image=image)["image"]
    np.testing.assert_array_equal(given, image)
    coarse = SensorNoise("adc-4bit")(image=image)["image"]
    np.testing.assert_array_equal(coarse, 17 * np.rint(image / 17))


def test_errors_say_what_is_expected():
    for arguments, kind, message in [
        ({"profile": "camera-imx478", "ep": 0.5}, UnknownNameError, "did you mean .*'camera-imx477'"),
        ({"profile": "adc-4bit", "exposure": 0.5}, UsageError, "expected ep, got exposure=0.5"),
        ({"profile": "adc-4bit", "ep": 0.5, "exposure": 0.5}, InvalidValueError, "one of them"),
        ({"profile": "adc-4bit", "ep": 1.5}, InvalidValueError, "0 < EP < 1"),
        ({"profile": "adc-4bit", "ep": 0.5, "p": 1.5}, InvalidValueError, "expected 0 <= p <= 1, got 1.5"),
        ({"profile": "adc-4bit", "ep": (0.5, 1.5)}, InvalidValueError, "0 < EP < 1"),
        (
            {"profile": "adc-4bit", "ep": (0.8, 0.2)},
            InvalidValueError,
            r"ep: expected a number, or a range \(low, high\)",
        ),
        ({"profile": "adc-4bit", "ep": (0.2, 0.5, 0.8)}, InvalidValueError, "or a range"),
        ({"profile": "adc-4bit", "ep": (0.2, "0.5")}, InvalidValueError, "or a range"),
        ({"profile": "adc-4bit", "ep": float("nan")}, InvalidValueError, "or a range"),
        ({"profile": "adc-4bit", "lux": 5}, UsageError, "lux: expected a camera to expose, got adc-4bit"),
        ({"profile": "adc-4bit", "point": "night"}, UsageError, "point: expected a camera or LIDAR, got adc-4bit"),
        ({"profile": "lidar-vlp16", "exposure": (0.1, 0.5)}, UsageError, "expected signal, got exposure=0.1"),
        ({"profile": "camera-imx477", "signal": 0.1}, UsageError, "expected ep or exposure, got signal=0.1"),
        ({"profile": "camera-imx477", "lux": (5, 5e6)}, InvalidValueError, "illuminance: expected at most"),
        ({"profile": "camera-imx477", "lux": 50, "point": "night"}, InvalidValueError, "lux, signal or point, one of"),
        ({"profile": "camera-imx477", "point": "nigth"}, UnknownNameError, "of camera-imx477 'nigth'; did you mean 'n"),
        ({"profile": "camera-imx477", "ep": 0.1}, UsageError, "EP"),
        ({"profile": "camera-imx477", "ep": (0.1, 0.95)}, UsageError, "EP"),
        ({"profile": "camera-imx477", "exposure": (0.1, 1), "settings": {"gain_dn_per_e": 2}}, UsageError, "clips"),
    ]:
        with pytest.raises(kind, match=message):
            SensorNoise(**arguments)
    transform = SensorNoise("adc-4bit", ep=0.5)
    with pytest.raises(InvalidValueError, match="dtype: expected uint8 or float32, got 'uint16'; convert it"):
        transform(image=np.zeros((4, 4, 3), dtype=np.uint16))


def test_images_that_a_sensor_does_not_take_are_refused():
    shapes = r"expected \(h, w\), \(h, w, 1\) or \(h, w, 3\), got "
    transform = SensorNoise(**CAMERA)
    for shape, message in [
        ((4,), shapes + r"\(4,\)$"),
        ((4, 4, 4), shapes + r"\(4, 4, 4\); leave out a channel of alpha"),
        ((4, 4, 2), shapes + r"\(4, 4, 2\)$"),
        ((2, 4, 4, 3), shapes + r"\(2, 4, 4, 3\)$"),
    ]:
        for dtype in (np.uint8, np.float32):
            with pytest.raises(InvalidValueError, match=message):
                transform(image=np.zeros(shape, dtype=dtype))
    for shape in [(16, 40), (16, 2), (16, 40, 3)]:
        with pytest.raises(InvalidValueError, match=r"range image: expected \(h, w, 2\), got \(16, "):
            SensorNoise("lidar-vlp16", signal=0.5)(image=np.zeros(shape, dtype=np.float32))


@pytest.mark.parametrize("name", ["camera-imx477", "adc-4bit", "lidar-vlp16"])
def test_values_that_are_no_image_are_refused(name):
    transform = SensorNoise(name)
    image = picture(16, 40, 2 if name == "lidar-vlp16" else 3, dtype="float32")
    for value, message in [
        (255, r"values of the image: expected float32 in \[0, 1\], got '0 to 255'; divide codes by 255"),
        (-2.1, "got '-2.1 to 0.9"),
        (1.01, "to 1.01'"),
        (np.nan, r"image: expected numbers in \[0, 1\], got nan"),
        (np.inf, "to inf'"),
    ]:
        wrong = image.copy()
        wrong[3, 3, 1] = value
        with pytest.raises(InvalidValueError, match=message):
            transform(image=wrong)
        with pytest.raises(InvalidValueError, match=message):
            transform(volume=np.stack([image, wrong]))
    # What a resize in float32 rounds beyond 1 is no mistake of the user's.
    image[3, 3, 1] = np.nextafter(np.float32(1), np.float32(2))
    transform(image=image)


def drawn(transform: A.BasicTransform, name: str, calls: int) -> np.ndarray:
    return np.array([transform.get_params()[name] for _ in range(calls)])


@pytest.mark.parametrize(
    ("arguments", "axis", "scale"),
    [
        ({"profile": "camera-imx477", "exposure": (0.01, 1)}, "exposure", np.log),
        ({"profile": "lidar-vlp16", "signal": (0.01, 1)}, "signal", np.log),
        ({"profile": "adc-4bit", "ep": (0.2, 0.8)}, "ep", np.asarray),
    ],
)
def test_a_range_is_drawn_from_evenly(arguments, axis, scale):
    low, high = arguments[axis]
    transform = SensorNoise(**arguments)
    transform.set_random_seed(0)
    values = drawn(transform, axis, 20_000)
    share = (scale(values) - scale(low)) / (scale(high) - scale(low))
    assert (values.min(), values.max()) == (pytest.approx(low), high)
    assert len(np.unique(values)) == 256
    counts = np.bincount(np.rint(share * 255).astype(int), minlength=256)
    assert stats.chisquare(counts).pvalue > 1e-3
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 4 / np.sqrt(20_000)


def test_rounding_leaves_no_range():
    assert 0.007 * (0.9 / 0.007) > 0.9
    assert PointRange("exposure", 0.007, 0.9).at(255).value == 0.9
    assert PointRange("exposure", 0.007, 0.9).at(0).value == 0.007


def test_the_seed_repeats_what_is_drawn():
    ranged = {"profile": "camera-imx477", "exposure": (0.01, 1)}
    first, second, third, other = (
        A.Compose([SensorNoise(**ranged, seed=own)], seed=seed) for seed, own in ((7, 0), (7, 0), (8, 0), (7, 1))
    )
    image = picture(4, 4, 3)
    values = [
        [pipeline(image=image) and pipeline.transforms[0].get_applied_params()["exposure"] for _ in range(8)]
        for pipeline in (first, second, third, other)
    ]
    assert values[0] == values[1]
    assert len({tuple(found) for found in values}) == 3
    assert len(set(values[0])) > 4


def test_light_and_named_points_are_those_of_the_profile():
    profile = load_sensor("camera-imx477")
    slow = {"exposure_time_s": 0.05}
    assert SensorNoise(profile, lux=50).get_params()["exposure"] == exposure_of_lux(profile, 50)
    assert SensorNoise(profile, lux=50, settings=slow).get_params()["exposure"] == pytest.approx(
        exposure_of_lux(profile, 50) * 0.05 / profile.exposure_time_s.value
    )
    lights = drawn(SensorNoise(profile, lux=(5, 50)), "exposure", 4000)
    assert lights.min() == pytest.approx(exposure_of_lux(profile, 5))
    assert lights.max() == exposure_of_lux(profile, 50)
    for name, point in profile.operating_points.items():
        assert SensorNoise(profile, point=name).get_params()["exposure"] == point.value
    lidar = load_sensor("lidar-vlp16")
    for name, point in lidar.operating_points.items():
        assert SensorNoise(lidar, point=name).get_params()["signal"] == point.value


def test_a_range_can_be_replayed():
    image = picture(8, 8, 3)
    replayed = A.ReplayCompose([SensorNoise("camera-imx477", exposure=(0.001, 1), p=0.9)])
    replayed.set_random_seed(3)
    for _ in range(4):
        given = replayed(image=image)
        record = json.loads(json.dumps(given["replay"]))
        np.testing.assert_array_equal(A.ReplayCompose.replay(record, image=image)["image"], given["image"])


class Photos(torch.utils.data.Dataset):
    """The same photo again and again, through one pipeline."""

    def __init__(self, pipeline: A.Compose, size: int) -> None:
        self.pipeline, self.image = pipeline, np.full((size, size, 3), 128, dtype=np.uint8)

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[np.ndarray, float]:
        image = self.pipeline(image=self.image)["image"]
        return image, self.pipeline.transforms[0].get_applied_params()["exposure"]


def epoch(photos: Photos, seed: int) -> tuple[np.ndarray, list[float]]:
    order = torch.Generator().manual_seed(seed)
    images, exposures = zip(*torch.utils.data.DataLoader(photos, None, num_workers=2, generator=order), strict=True)
    return np.stack(images), list(exposures)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_workers_of_a_data_loader_have_noise_of_their_own():
    photos = Photos(A.Compose([SensorNoise("camera-imx477", exposure=(0.01, 1))], seed=0), 128)
    photos[0]  # starts this process's threads, which a forked worker has not
    images, exposures = epoch(photos, 1)
    again, later = epoch(photos, 1), epoch(photos, 2)
    # Worker 0 has photos 0 and 2, worker 1 has 1 and 3; albumentations' generator is the same in both.
    assert len(np.unique(np.concatenate([images, later[0]]).reshape(8, -1), axis=0)) == 8
    assert len({*exposures, *later[1]}) > 4
    np.testing.assert_array_equal(again[0], images)
    assert again[1] == exposures


def test_numbers_of_numpy_are_written_as_plain_ones(tmp_path):
    transform = SensorNoise("camera-imx477", exposure=(np.float32(0.25), np.float64(0.5)), bits=np.float64(9))
    A.save(A.Compose([transform]), tmp_path / "pipeline", data_format="yaml")
    (restored,) = A.load(tmp_path / "pipeline", data_format="yaml").transforms
    assert restored.to_dict_private()["exposure"] == (0.25, 0.5)
    assert type(transform.to_dict_private()["bits"]) is float
