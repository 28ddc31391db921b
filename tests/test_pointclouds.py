"""Readers of point clouds against bytes made by hand, what they refuse, and labelled clouds as range images."""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustcheck import content
from robustcheck.data import pointclouds
from robustcheck.data.cloud_folders import window
from robustcheck.data.datasets import load_data
from robustcheck.data.pcd import lzf_decompress
from robustcheck.data.pointclouds import PointCloud, read_labels, read_points
from robustcheck.data.preprocessing import Preprocessing
from robustcheck.errors import DataError, UsageError
from robustcheck.sensing.lidar_profile import LidarProfile
from robustcheck.sensing.lidar_returns import DARKEST
from robustcheck.sensing.profile import load_sensor

POINTS = np.array([[1.5, -2, 0.25, 0.5], [3, 4, -5, 1], [0.125, 0, 7, 0]], np.float32)


def lzf_compress(data: bytes) -> bytes:
    """A small encoder for the tests: runs, and references to what a table of 3-byte words has seen."""
    out, run, at = bytearray(), bytearray(), 0
    seen: dict[bytes, int] = {}

    def flush() -> None:
        for start in range(0, len(run), 32):
            piece = run[start : start + 32]
            out.append(len(piece) - 1)
            out.extend(piece)
        run.clear()

    while at < len(data):
        word = data[at : at + 3]
        before = seen.get(word, -1)
        seen[word] = at
        length = 0
        if before >= 0 and at - before <= 8192 and len(word) == 3:
            while length < 264 and at + length < len(data) and data[before + length] == data[at + length]:
                length += 1
        if length < 3:
            run.append(data[at])
            at += 1
            continue
        flush()
        distance = at - before - 1
        if length - 2 < 7:
            out.append((length - 2) << 5 | distance >> 8)
        else:
            out += bytes([7 << 5 | distance >> 8, length - 2 - 7])
        out.append(distance & 255)
        at += length
    flush()
    return bytes(out)


def pcd(data: str, body: bytes, *, fields: str = "x y z intensity", size: str = "4 4 4 4", kind: str = "F F F F",
        count: str = "1 1 1 1", points: int = 3, version: str = "0.7", height: int = 1) -> bytes:  # fmt: skip
    return (
        f"# .PCD v0.7\nVERSION {version}\nFIELDS {fields}\nSIZE {size}\nTYPE {kind}\nCOUNT {count}\nWIDTH {points}\n"
        f"HEIGHT {height}\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {points}\nDATA {data}\n"
    ).encode() + body


def packed(columns: bytes, size: int | None = None) -> bytes:
    squeezed = lzf_compress(columns)
    return struct.pack("<II", len(squeezed), len(columns) if size is None else size) + squeezed


def ply(form: str, body: bytes, properties: str, points: int = 3, before: str = "") -> bytes:
    lines = "".join(f"property {line}\n" for line in properties.split(", "))
    tail = "element face 1\nproperty list uchar int vertex_indices\n"
    head = f"ply\nformat {form} 1.0\ncomment made here\n{before}element vertex {points}\n"
    return f"{head}{lines}{tail}end_header\n".encode() + body


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


FLOATS = "float x, float y, float z, float intensity"
TEXT = b"".join(b" ".join(str(v).encode() for v in row) + b"\n" for row in POINTS.tolist())
FILES = {
    "kitti.bin": POINTS.astype("<f4").tobytes(),
    "ascii.pcd": pcd("ascii", TEXT),
    "binary.pcd": pcd("binary", POINTS.astype("<f4").tobytes()),
    "packed.pcd": pcd("binary_compressed", packed(POINTS.T.astype("<f4").tobytes())),
    "ascii.ply": ply("ascii", TEXT + b"3 0 1 2\n", FLOATS),
    "little.ply": ply("binary_little_endian", POINTS.astype("<f4").tobytes() + b"\x03" + bytes(12), FLOATS),
    "big.ply": ply("binary_big_endian", POINTS.astype(">f4").tobytes(), FLOATS),
    "four.npz": npz(points=POINTS),
    "beside.npz": npz(points=POINTS[:, :3].astype(np.float64), intensity=POINTS[:, 3]),
    "fortran.npz": npz(points=np.asfortranarray(POINTS)),
}


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_same_points(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FILES[name])
    cloud = read_points(tmp_path / name)
    np.testing.assert_array_equal(cloud.xyz, POINTS[:, :3])
    np.testing.assert_array_equal(cloud.intensity, POINTS[:, 3])
    assert (cloud.xyz.dtype, cloud.intensity.dtype, cloud.classes) == (np.float32, np.float32, None)


def test_fields_of_other_types_sizes_and_counts(tmp_path: Path) -> None:
    row = np.dtype(
        [("_", "V3"), ("y", "<f8"), ("n", "<i2", (3,)), ("x", "<f4"), ("i", "u1"), ("z", "<f4"), ("t", "<u4")]
    )
    rows = np.zeros(3, row)
    for column, name in enumerate("xyz"):
        rows[name] = POINTS[:, column]
    rows["i"], rows["n"], rows["t"] = [0, 51, 255], 7, 2**32 - 1
    header = {
        "fields": "_ y n x intensity z t",
        "size": "1 8 2 4 1 4 4",
        "kind": "U F I F U F U",
        "count": "3 1 3 1 1 1 1",
    }
    columns = b"".join(np.ascontiguousarray(rows[name]).tobytes() for name in row.names)
    for data, body in (("binary", rows.tobytes()), ("binary_compressed", packed(columns))):
        (tmp_path / "a.pcd").write_bytes(pcd(data, body, **header))
        cloud = read_points(tmp_path / "a.pcd")
        np.testing.assert_array_equal(cloud.xyz, POINTS[:, :3])
        np.testing.assert_allclose(cloud.intensity, [0, 0.2, 1], rtol=1e-6)
    rows = np.zeros(3, np.dtype([("z", ">f8"), ("k", ">i2"), ("y", ">f4"), ("x", ">f4"), ("scalar_Intensity", ">u2")]))
    for column, name in enumerate("xyz"):
        rows[name] = POINTS[:, column]
    rows["scalar_Intensity"] = [0, 13107, 65535]
    properties = "double z, int16 k, float32 y, float x, ushort scalar_Intensity"
    (tmp_path / "a.ply").write_bytes(ply("binary_big_endian", rows.tobytes(), properties, before="obj_info scan 1\n"))
    cloud = read_points(tmp_path / "a.ply")
    np.testing.assert_array_equal(cloud.xyz, POINTS[:, :3])
    np.testing.assert_allclose(cloud.intensity, [0, 0.2, 1], rtol=1e-6)


def test_intensities_are_shares_or_codes(tmp_path: Path) -> None:
    for largest, expected in ((1.0, [0.5, 1, 0]), (255.0, [0.5, 1, 0]), (100.0, [50 / 255, 100 / 255, 0])):
        (tmp_path / "a.npz").write_bytes(npz(points=POINTS[:, :3], intensity=POINTS[:, 3] * largest))
        np.testing.assert_allclose(read_points(tmp_path / "a.npz").intensity, expected, rtol=1e-6)
    for wrong in (-0.5, 300.0):
        (tmp_path / "a.npz").write_bytes(npz(points=POINTS[:, :3], intensity=np.full(3, wrong)))
        with pytest.raises(DataError, match=r"a\.npz: expected intensities from 0 to 1 or 255, got"):
            read_points(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes(npz(points=POINTS[:, :3]))
    assert read_points(tmp_path / "a.npz").intensity is None


def test_points_that_are_not_finite_are_no_returns(tmp_path: Path) -> None:
    torn = [[np.nan, 1, 1, 1], [1, np.inf, 1, 1], [1, 1, 1, np.nan], [1, 1, 1, np.inf]]
    rows = np.concatenate([POINTS, torn]).astype("<f4")
    marks = np.array([10 | 3 << 16, 30 | 65535 << 16, 65535, 1, 2, 3, 4], "<u4")
    (tmp_path / "a.bin").write_bytes(rows.tobytes())
    (tmp_path / "a.label").write_bytes(marks.tobytes())
    cloud = read_points(tmp_path / "a.bin", tmp_path / "a.label")
    np.testing.assert_array_equal(cloud.xyz, POINTS[:, :3])
    assert (cloud.omitted, cloud.full_scale) == (4, 1)
    assert (cloud.classes.tolist(), cloud.instances.tolist()) == ([10, 30, 65535], [3, 65535, 0])
    assert read_labels(tmp_path / "a.label", tmp_path / "a.bin")[1].tolist() == [3, 65535, 0, 0, 0, 0, 0]
    (tmp_path / "b.npz").write_bytes(npz(points=np.full((2, 3), 1e300)))
    with pytest.raises(DataError, match="at least one point with finite numbers, got none of 2"):
        read_points(tmp_path / "b.npz")


HOSTILE = {
    "absent.bin": (None, "absent.bin: expected a point cloud, got: No such file"),
    "cloud.xyz": (b"1 2 3", r"\(.bin, .pcd, .ply, .npz\), got '.xyz'"),
    "cut.bin": (FILES["kitti.bin"][:-1], "47 bytes, which are no multiple of 16"),
    "none.bin": (b"", "at least one point with finite numbers, got none of 0"),
    "cut.pcd": (FILES["binary.pcd"][:-1], "47 bytes where 3 points of 16 are stated"),
    "few.pcd": (pcd("ascii", b"1 2 3 4\n"), "4 numbers where 3 points of 4 are stated"),
    "word.pcd": (pcd("ascii", b"1 2 3 x " * 3), "could not convert"),
    "old.pcd": (pcd("ascii", TEXT, version="0.5"), "PCD version 0.5"),
    "huge.pcd": (pcd("binary", b"", points=10**11), "0 bytes where 100000000000 points"),
    "minus.pcd": (pcd("binary", b"", points=-1), "POINTS '-1'"),
    "rows.pcd": (pcd("ascii", TEXT, height=2), "WIDTH 3 × HEIGHT 2 = 6 where POINTS says 3"),
    "tall.pcd": (FILES["ascii.pcd"].replace(b"HEIGHT 1", b"HEIGHT x"), "HEIGHT 'x'"),
    "nan.pcd": (pcd("ascii", b"1 2 3 4 " * 2 + b"1 2 3 nan", kind="F F F U", size="4 4 4 1"),
                "nan in the field 'intensity', which states whole numbers from 0 to 255"),
    "over.pcd": (pcd("ascii", b"1 2 3 256 " * 3, kind="F F F U", size="4 4 4 1"), "256 in the field 'intensity'"),
    "under.pcd": (pcd("ascii", b"-129 2 3 4 " * 3, kind="I F F F", size="1 4 4 4"), "-129 in the field 'x'.*from -128"),
    "half.pcd": (pcd("ascii", b"1 2 3 0.5 " * 3, kind="F F F I", size="4 4 4 4"), "0.5 in the field 'intensity'"),
    "wide8.pcd": (pcd("ascii", b"9223372036854775808 2 3 4 " * 3, kind="I F F F", size="8 4 4 4"), "in the field 'x'"),
    "nan.ply": (ply("ascii", b"1 2 3 nan\n" * 3, FLOATS.replace("float i", "uchar i")), "nan in the field 'intensity'"),
    "wide.pcd": (pcd("binary", b"", count="1 1 1 100000"), "the field 'intensity' with count '100000'"),
    "type.pcd": (pcd("binary", b"", kind="F F F O"), "the field 'intensity' of type 'O'"),
    "size.pcd": (pcd("binary", b"", size="4 4 4 3"), "the field 'intensity' of type 'F' and size '3'"),
    "short.pcd": (pcd("binary", b"", size="4 4 4"), "differ in length"),
    "data.pcd": (pcd("gzip", b""), "DATA 'gzip'"),
    "endless.pcd": (b"# a\n" * 40000, "no PCD header"),
    "line.pcd": (b"VERSION 0.7\nCOLOUR red\n", "the header line 'COLOUR red'"),
    "fields.pcd": (pcd("ascii", TEXT, fields="x y q intensity"), "the fields x, y and z, got x, y, q, intensity"),
    "bomb.pcd": (pcd("binary_compressed", b"\4\0\0\0\0\0\0\x80" + bytes(4), points=2**27), "than they can"),
    "lies.pcd": (pcd("binary_compressed", packed(POINTS.T.tobytes(), 64)), "64 bytes uncompressed where 3 points"),
    "cut2.pcd": (FILES["packed.pcd"][:-3], "the file is cut off"),
    "no.ply": (b"solid", "no PLY header"),
    "format.ply": (FILES["ascii.ply"].replace(b"1.0\n", b"2.0\n", 1), "the format 'format ascii 2.0'"),
    "list.ply": (ply("ascii", TEXT, "list uchar int x"), "the line 'property list uchar int x' among"),
    "face.ply": (FILES["ascii.ply"].replace(b"element vertex", b"element face", 1), "put vertex first"),
    "twice.ply": (ply("ascii", TEXT, "float x, float x"), "two of one name"),
    "cut.ply": (FILES["big.ply"][:-1], "47 bytes where 3 vertices of 16 are stated"),
    "few.ply": (ply("ascii", TEXT[:10], FLOATS, points=9), "9 vertices of 4 are stated"),
    "count.ply": (ply("ascii", TEXT, FLOATS, points=-3), "the number of vertices '-3'"),
    "pickle.npz": (npz(points=np.array([{}])), "store numbers"),
    "shape.npz": (npz(points=np.zeros((2, 5))), r"points of shape \(2, 5\)"),
    "both.npz": (npz(points=POINTS, intensity=POINTS[:, 3]), "beside points of shape"),
    "names.npz": (npz(cloud=POINTS), "the arrays cloud, of which none is 'points'"),
    "zip.npz": (b"PK\x03\x04", "expected a point cloud, got: File is not a zip file"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_end_with_a_sentence(tmp_path: Path, name: str) -> None:
    data, message = HOSTILE[name]
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        read_points(tmp_path / name)
    assert name in str(caught.value)


def test_an_array_that_claims_more_than_is_there_is_refused(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 3)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("points.npy", header.getvalue() + b"\0" * 12)
    with pytest.raises(DataError, match="cannot reshape array of size 3"):
        read_points(tmp_path / "a.npz")


def test_large_files_and_labels_that_do_not_fit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.bin").write_bytes(FILES["kitti.bin"])
    (tmp_path / "a.label").write_bytes(bytes(8))
    with pytest.raises(DataError, match=r"a\.label: expected a label for each of 3 points of a\.bin, got 2"):
        read_points(tmp_path / "a.bin", tmp_path / "a.label")
    (tmp_path / "big.npz").write_bytes(npz(points=np.zeros((5000, 3))))
    monkeypatch.setattr(pointclouds, "LARGEST_BYTES", 2**15)
    with pytest.raises(DataError, match=r"big\.npz: expected a point cloud, got: arrays of more than"):
        read_points(tmp_path / "big.npz")
    monkeypatch.setattr(pointclouds, "LARGEST_BYTES", 40)
    with pytest.raises(DataError, match=r"a\.bin: expected at most 0 MiB"):
        read_points(tmp_path / "a.bin")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from([b"a", b"bcd", b"\0" * 40, bytes(range(50))]), max_size=60).map(b"".join))
def test_lzf_undoes_what_the_encoder_did(data: bytes) -> None:
    assert lzf_decompress(lzf_compress(data), len(data)) == data


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40), st.integers(0, 60))
def test_lzf_of_anything_gives_the_size_or_an_error(data: bytes, size: int) -> None:
    try:
        found = lzf_decompress(data, size)
    except ValueError:
        return
    assert len(found) == size


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(FILES)), st.data())
def test_damaged_files_are_read_or_refused(name: str, data: st.DataObject) -> None:
    damaged = bytearray(FILES[name])
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    reader = pointclouds._READERS[Path(name).suffix]
    try:
        columns = reader(bytes(damaged[:cut]))
    except (ValueError, EOFError, RuntimeError, OSError, zipfile.BadZipFile, pointclouds.zlib.error):
        return
    assert all(len(values) <= 10_000 for values in columns.values())


def vlp16() -> LidarProfile:
    profile = load_sensor("lidar-vlp16")
    assert isinstance(profile, LidarProfile)
    return profile


def seen_thing(azimuth: float, distance: float, rows: tuple[int, ...] = (8, 9, 10), width: int = 11) -> np.ndarray:
    """Points on the beams of a VLP-16, (n, 4): a screen of one distance around an azimuth [degrees]."""
    elevation = np.radians(np.array(vlp16().elevation_deg.values)[list(rows)])[:, None]
    turned = np.radians(azimuth + 0.2 * (np.arange(width) - width // 2))[None]
    x, y = np.cos(elevation) * np.cos(turned), np.cos(elevation) * np.sin(turned)
    points = distance * np.stack([x, y, np.broadcast_to(np.sin(elevation), x.shape)], -1).reshape(-1, 3)
    return np.column_stack([points, np.full(len(points), 0.25)]).astype(np.float32)


@pytest.mark.parametrize("azimuth", [0.0, 100.1, 180.0, -179.9])
def test_a_window_looks_at_the_thing_wherever_it_stands(azimuth: float) -> None:
    points = seen_thing(azimuth, 10.0)
    image = window(PointCloud(points[:, :3], points[:, 3]), points[:, :3], vlp16())
    rows, columns = np.nonzero(image[..., 0])
    assert set(rows.tolist()) == {8, 9, 10}
    assert abs(columns.mean() - 63.5) <= 0.5
    assert len(columns) == 33
    np.testing.assert_allclose(image[rows, columns], [[10 / 128, 0.25]] * 33, rtol=1e-5)
    assert sorted(set(columns.tolist())) == list(range(columns.min(), columns.min() + 11))


def write_clouds(root: Path, count: int = 6) -> Path:
    for label, distance in (("near", 5.0), ("far", 20.0)):
        (root / label).mkdir(parents=True)
        for number in range(count):
            points = seen_thing(40.0 * number, distance)
            (root / label / f"{number}.bin").write_bytes(points.astype("<f4").tobytes())
    return root


def test_a_folder_of_clouds_is_a_data_set_of_range_images(tmp_path: Path) -> None:
    root = write_clouds(tmp_path / "scans")
    (root / "near" / "9.ply").write_bytes(b"not one")
    around = np.concatenate([seen_thing(angle, 8.0) for angle in (0, 90, 180, 270)])
    (root / "far" / "9.npz").write_bytes(npz(points=around))
    (root / "far" / "high.npz").write_bytes(npz(points=np.array([[1.0, 0, 9], [1, 0, 8]])))
    data = load_data(f"clouds:{root}")
    assert (data.modality, data.shape, data.classes, data.summary()["modality"]) == (
        "range",
        (2, 16, 128),
        ("far", "near"),
        "range",
    )
    for split in data.splits.values():
        for image, label in zip(split.images, split.labels, strict=True):
            assert image[0].max() * 128 == pytest.approx((20.0, 5.0)[int(label)], rel=1e-5)
    ids = {
        int.from_bytes(hashlib.blake2b(f"near/{n}.bin".encode(), digest_size=8).digest(), "little") >> 1
        for n in range(6)
    }
    assert ids <= {int(i) for split in data.splits.values() for i in split.sample_ids}
    unnamed, left_out, *_ = data.notes
    assert unnamed.startswith("no LIDAR was named, so lidar-vlp16 was taken; clouds:PART:PATH")
    assert "3 of 15 clouds were left out" in left_out
    for reason in (
        "near/9.ply: expected a point cloud",
        "far/9.npz: expected one thing",
        "far/high.npz: expected at least 5 points on the beams of",
    ):
        assert reason in left_out
    assert str(tmp_path) not in left_out
    with pytest.raises(DataError, match="named as the class names say, got 'far'"):
        load_data(f"clouds:{root}", class_names=("near", "middle"))
    for label in ("near", "far"):
        for number in range(4):
            (root / label / f"{number}.bin").write_bytes(b"cut")
    with pytest.raises(DataError, match="at least half of class 'far' to be readable"):
        load_data(f"clouds:{root}")


def test_range_images_keep_their_size_and_may_be_mirrored(tmp_path: Path) -> None:
    root = write_clouds(tmp_path / "scans")
    for asked in ({"resize": (8, 64)}, {"crop": (16, 64)}, {"random_crop_padding": 2}):
        with pytest.raises(UsageError, match="expected range images to keep their size") as caught:
            load_data(f"clouds:{root}", preprocessing=Preprocessing(**asked))
        assert str(caught.value).startswith("--" + next(iter(asked)).replace("_", "-"))
    assert load_data(f"clouds:{root}", preprocessing=Preprocessing(flip=True)).preprocessing.flip


def test_clouds_are_seen_with_the_beams_of_the_lidar_that_is_named(tmp_path: Path) -> None:
    root = write_clouds(tmp_path / "scans")
    data = load_data(f"clouds:lidar-os1-64:{root}")
    assert data.beams is not None
    assert (data.beams, data.shape, data.notes) == (load_sensor("lidar-os1-64").beams, (2, 64, 128), ())
    assert "lidar-os1-64 (64 beams from +16.6° to -16.6°, a firing every 0.3516°)" in data.source
    assert data.summary()["beams"]["part"] == "lidar-os1-64"
    # The screen is 11 firings of 0.2° wide and 6° high, whatever looks at it.
    columns = np.nonzero(data.test.images[0, 0].numpy())[1]
    assert 5 <= len(set(columns.tolist())) <= 7
    mine = tmp_path / "mine.toml"
    text = content.shelf("sensors").joinpath("lidar-vlp16.toml").read_text(encoding="utf-8")
    mine.write_text(text.replace("[15, 13,", "[14.5, 13,"), encoding="utf-8")
    assert load_data(f"clouds:{mine}:{root}").beams.elevation_deg[0] == 14.5
    odd = write_clouds(tmp_path / "12:30")
    assert load_data(f"clouds:lidar-vlp16:{odd}").beams == load_sensor("lidar-vlp16").beams
    assert load_data(f"clouds:{odd}").beams == load_sensor("lidar-vlp16").beams, "a folder that is there"
    for rest, message in (
        (f"lidar-vlp61:{root}", "unknown sensor 'lidar-vlp61'; did you mean 'lidar-vlp16'.*first colon of clouds:PART"),
        (f"camera-imx477:{root}", "expected a LIDAR before the path, got camera-imx477, a camera"),
        ("lidar-vlp16:", r"expected 'clouds:\[PART:\]PATH', got 'clouds:lidar-vlp16:'"),
        (f":{root}", r"expected 'clouds:\[PART:\]PATH'"),
    ):
        with pytest.raises(UsageError, match=message):
            load_data(f"clouds:{rest}")


def test_train_and_test_folders_of_clouds_are_kept(tmp_path: Path) -> None:
    root = tmp_path / "scans"
    write_clouds(root / "train", 8)
    write_clouds(root / "test", 3)
    data = load_data(f"clouds:{root}")
    assert data.fixed_test
    assert [len(split) for split in data.splits.values()] == [12, 4, 6]
    ids = [
        int.from_bytes(hashlib.blake2b(f"test/{label}/{n}.bin".encode(), digest_size=8).digest(), "little") >> 1
        for label in ("near", "far")
        for n in range(3)
    ]
    assert sorted(ids) == data.test.sample_ids.tolist()


def test_points_and_intensities_that_are_not_right_are_counted_and_noted(tmp_path: Path) -> None:
    root = write_clouds(tmp_path / "scans")
    points = seen_thing(3.0, 5.0)
    points[:3, :3] = np.array([[np.nan, 0, 0], [0, -np.inf, 0], [0, 0, np.nan]])
    (root / "near" / "torn.bin").write_bytes(points.tobytes())
    (root / "near" / "bare.npz").write_bytes(npz(points=seen_thing(10, 5.0)[:, :3]))
    (root / "far" / "dark.npz").write_bytes(npz(points=seen_thing(10, 20.0) * np.array([1, 1, 1, 0])))
    for n in range(2):
        codes = seen_thing(50.0 * n, 20.0) * np.array([1, 1, 1, 255])
        (root / "far" / f"codes{n}.npz").write_bytes(npz(points=codes))
    deep = (seen_thing(50.0, 20.0)[:, 3] * 65535).astype(np.uint16)
    (root / "far" / "deep.npz").write_bytes(npz(points=seen_thing(50.0, 20.0)[:, :3], intensity=deep))
    _, torn, dark, scaled = load_data(f"clouds:{root}").notes
    assert torn.endswith("not finite were left out: 3 in 1 of 18 clouds, 'near/torn.bin'")
    assert dark.startswith("2 of 18 clouds have no intensity above 0, which stands for a reflectivity of 0.5 %")
    assert dark.endswith(": 'far/dark.npz', 'near/bare.npz'")
    assert scaled.startswith(
        "intensities have a full scale of 1, but another in 3 of 16 clouds: 'far/codes0.npz (255)'"
    )
    assert "'far/deep.npz (65535)'; each was scaled by its own" in scaled
    assert DARKEST == 0.005
    for label in ("near", "far"):
        for n in range(6):
            (root / label / f"{n}.bin").write_bytes((seen_thing(40.0 * n, 20.0) * np.float32([1, 1, 1, 255])).tobytes())
    usual = load_data(f"clouds:{root}").notes[-1]
    assert usual.startswith(
        "intensities have a full scale of 255, but another in 2 of 16 clouds: 'far/deep.npz (65535)'"
    )
    assert "'near/torn.bin (1)'" in usual


@pytest.mark.parametrize("kind", ["clouds", "folder"])
def test_a_folder_without_what_was_looked_for_says_what_that_is(tmp_path: Path, kind: str) -> None:
    nouns = {"clouds": r"point clouds \(\.bin, \.pcd, \.ply, \.npz\)", "folder": r"images \(\.bmp, .*\.webp\)"}
    with pytest.raises(DataError, match=rf"expected one sub-folder of {nouns[kind]} a class, got no sub-folder; put"):
        load_data(f"{kind}:{tmp_path}")
    (tmp_path / "loose.bin").write_bytes(FILES["kitti.bin"])
    with pytest.raises(
        DataError, match=r"got no sub-folder but 'loose\.bin'; put the files of each class into a folder"
    ):
        load_data(f"{kind}:{tmp_path}")
    (tmp_path / "car").mkdir()
    with pytest.raises(DataError, match=rf"car: expected {nouns[kind]}, got none; "):
        load_data(f"{kind}:{tmp_path}")
    for name in ("b.xyz", "a.xyz"):
        (tmp_path / "car" / name).touch()
    with pytest.raises(DataError, match=rf"car: expected {nouns[kind]}, got none among 2 files, such as 'a\.xyz'"):
        load_data(f"{kind}:{tmp_path}")


def write_kitti(root: Path, sequences: dict[str, int]) -> Path:
    """Scans of a car (moving or still), a person and a bicyclist, each on its own side, and an unlabelled wall."""
    for name, scans in sequences.items():
        for part in ("velodyne", "labels"):
            (root / "sequences" / name / part).mkdir(parents=True)
        for scan in range(scans):
            things = [(0.0, 252 if scan % 2 else 10, 1), (90.0, 30, 2), (180.0, 31, 3), (45.0, 50, 0), (-90.0, 30, 0)]
            points = [seen_thing(angle, 6.0 + kind % 7, (8, 9, 10, 11, 12)) for angle, kind, _ in things]
            marks = [
                np.full(len(p), kind | instance << 16, "<u4")
                for p, (_, kind, instance) in zip(points, things, strict=True)
            ]
            if scan == 0:
                marks[2][5:] = 0  # too few points of the bicyclist are left
            base = root / "sequences" / name
            (base / "velodyne" / f"{scan:06}.bin").write_bytes(np.concatenate(points).astype("<f4").tobytes())
            (base / "labels" / f"{scan:06}.label").write_bytes(np.concatenate(marks).tobytes())
    return root


def test_semantic_kitti_gives_a_sample_an_instance_split_by_sequence(tmp_path: Path) -> None:
    root = write_kitti(tmp_path / "dataset", {"00": 6, "01": 5, "08": 4, "09": 0, "10": 3})
    (root / "sequences" / "11" / "velodyne").mkdir(parents=True)
    (root / "sequences" / "11" / "velodyne" / "0.bin").write_bytes(bytes(16))
    data = load_data(f"kitti:{root}")
    assert (data.shape, data.classes, data.modality, data.fixed_test) == (
        (2, 64, 128),
        ("car", "person", "bicyclist"),
        "range",
        True,
    )
    assert [len(split) for split in data.splits.values()] == [31, 8, 11]
    assert np.bincount(data.test.labels.numpy()).tolist() == [4, 4, 3]
    middle = data.test.images[:, 0, :, 60:68]
    distances = {label: (middle[data.test.labels == label].amax() * 128).item() for label in range(3)}
    assert distances == pytest.approx({0: 9.0, 1: 8.0, 2: 9.0}, rel=1e-5)
    again = load_data(f"kitti:{root}", class_names=("a", "b", "c"))
    assert again.classes == ("a", "b", "c")


def test_one_sequence_is_split_in_time_and_rare_classes_are_left_out(tmp_path: Path) -> None:
    root = write_kitti(tmp_path / "dataset", {"03": 10})
    data = load_data(f"kitti:{root}")
    assert data.classes == ("car", "person")
    assert [len(split) for split in data.splits.values()] == [12, 4, 4]
    assert "'bicyclist'" in data.notes[0]
    long = write_kitti(tmp_path / "long", {"00": 101})
    every_tenth = load_data(f"kitti:{long}")
    assert sum(map(len, every_tenth.splits.values())) == 11 + 11 + 10


def write_scan(root: Path, number: int, kinds: list[tuple[int, int, int]], torn: int = 0) -> tuple[Path, Path]:
    """A scan of one thing for each (class, instance, points), a quarter turn apart; the first points may be torn."""
    clouds, labels = (root / "sequences" / "00" / part for part in ("velodyne", "labels"))
    clouds.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    points = [seen_thing(90.0 * place, 8.0, width=20)[:count] for place, (_, _, count) in enumerate(kinds)]
    marks = [np.full(count, kind | instance << 16, "<u4") for kind, instance, count in kinds]
    cloud, label = clouds / f"{number:06}.bin", labels / f"{number:06}.label"
    together = np.concatenate(points)
    together[:torn, 0] = np.nan
    cloud.write_bytes(together.tobytes())
    label.write_bytes(np.concatenate(marks).tobytes())
    return cloud, label


def test_fifty_points_are_enough_and_forty_nine_are_not(tmp_path: Path) -> None:
    for scan in range(12):
        write_scan(tmp_path, scan, [(10, 1, 50), (30, 2, 50), (10, 3, 49), (31, 4, 49)])
    data = load_data(f"kitti:{tmp_path}")
    assert data.classes == ("car", "person")
    assert sum(map(len, data.splits.values())) == 24


def test_one_instance_number_in_two_classes_is_two_things(tmp_path: Path) -> None:
    for scan in range(10):
        write_scan(tmp_path, scan, [(10, 7, 60), (30, 7, 60)])
    data = load_data(f"kitti:{tmp_path}")
    counts = sum(split.labels.bincount(minlength=2) for split in data.splits.values())
    assert counts.tolist() == [10, 10]
    ids = np.concatenate([split.sample_ids.numpy() for split in data.splits.values()])
    names = [f"sequences/00/velodyne/{n:06}.bin#{e}" for n in range(10) for e in ("0:7", "7:7")]
    expected = [int.from_bytes(hashlib.blake2b(n.encode(), digest_size=8).digest(), "little") >> 1 for n in names]
    assert sorted(expected) == sorted(ids.tolist())


def test_scans_whose_labels_do_not_fit_are_counted_and_named(tmp_path: Path) -> None:
    things = [(10, 1, 60), (30, 2, 60)]
    for scan in range(12):
        write_scan(tmp_path, scan, things)
    cloud, label = write_scan(tmp_path, 12, things)
    label.write_bytes(label.read_bytes()[:40])
    write_scan(tmp_path, 13, things)[1].write_bytes(b"abc")
    write_scan(tmp_path, 14, things)[1].unlink()
    cut = write_scan(tmp_path, 15, things)[0]
    cut.write_bytes(cut.read_bytes()[:-16])
    write_scan(tmp_path, 16, things, torn=60)
    bare, unfit, lost, torn, _ = load_data(f"kitti:{tmp_path}").notes
    assert bare == "scans without labels were not read, so many in each sequence: '00 (1)'"
    assert unfit.startswith("3 of 16 scans were left out: 'sequences/00/labels/000012.label: expected a label for each")
    for reason in ("120 points of 000012.bin, got 10'", "000013.label: expected labels of points, got: 3 bytes",
                   "each of 119 points of 000015.bin, got 120'"):  # fmt: skip
        assert reason in unfit
    assert str(tmp_path) not in unfit
    assert lost.startswith("1 of 26 clouds were left out: 'sequences/00/velodyne/000016.bin: expected points of the")
    assert torn.endswith("left out: 60 in 1 of 13 clouds, 'sequences/00/velodyne/000016.bin'")
    for scan in range(6):
        (cloud.parent / f"{scan:06}.bin").write_bytes(b"")
    with pytest.raises(DataError, match=r"got 7 of 'car', 7 of 'person'; scans without labels.*; 9 of 16 scans were"):
        load_data(f"kitti:{tmp_path}")


def test_kitti_is_seen_with_the_beams_of_the_lidar_that_is_named(tmp_path: Path) -> None:
    for scan in range(10):
        write_scan(tmp_path, scan, [(10, 1, 60), (30, 2, 60)])
    for spec, part in ((f"kitti:{tmp_path}", "lidar-hdl64e"), (f"kitti:lidar-pandar64:{tmp_path}", "lidar-pandar64")):
        data = load_data(spec)
        assert data.beams == load_sensor(part).beams
        assert f"seen with the beams of {part} (64 beams" in data.source


def test_kitti_without_labels_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="object and raw data have no label a point"):
        load_data(f"kitti:{tmp_path}")
    (tmp_path / "sequences" / "00" / "velodyne").mkdir(parents=True)
    (tmp_path / "sequences" / "00" / "velodyne" / "0.bin").write_bytes(FILES["kitti.bin"])
    with pytest.raises(DataError, match="got no such pair; the labels are a download"):
        load_data(f"kitti:{tmp_path}")
    with pytest.raises(DataError, match="two classes with 10 labelled instances of 50 points, got 2 of 'car'"):
        load_data(f"kitti:{write_kitti(tmp_path / 'small', {'00': 2})}")


def test_one_long_word_does_not_pad_all_the_others(tmp_path: Path) -> None:
    words = "1 " * 30 + "0" * 100
    head = "VERSION .7\nFIELDS x\nSIZE 4\nTYPE F\nCOUNT 1\nWIDTH 31\nHEIGHT 1\nPOINTS 31\nDATA ascii\n"
    (tmp_path / "a.pcd").write_text(head + words, encoding="ascii")
    with pytest.raises(DataError, match="a word of 100 characters where a number is expected"):
        read_points(tmp_path / "a.pcd")
