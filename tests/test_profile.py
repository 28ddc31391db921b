"""Sensor profiles: the shipped ones, and every way a file can be wrong."""

import os

import pytest
from scipy import integrate, stats

from robustcheck import content
from robustcheck.errors import FileFormatError, InvalidValueError, UnknownNameError, UsageError
from robustcheck.sensing.camera_profile import CameraProfile
from robustcheck.sensing.channel import channel
from robustcheck.sensing.lidar_profile import LidarProfile
from robustcheck.sensing.profile import ConverterProfile, load_sensor, sensor_names, with_settings
from robustcheck.sensing.sensor import sensor
from robustcheck.tomlfile import line_of

GOOD = """name = "mine"
kind = "converter"
title = "Mine"

[bits]
value = 10
unit = "bit"
kind = "typical"
status = "assumed"
source = "a guess"
"""


CAMERA = """name = "mine"
kind = "camera"
title = "Mine"

bits = { value = 12, unit = "bit", kind = "exact", status = "datasheet", source = "s" }
full_well_e = { value = 10000, unit = "electron", kind = "typical", status = "datasheet", source = "s" }
read_noise_e = { value = 2, unit = "electron", kind = "1sigma", status = "datasheet", source = "s" }
gain_dn_per_e = { value = 0.4, unit = "DN/electron", kind = "typical", status = "datasheet", source = "s" }
black_level_dn = { value = 16, unit = "DN", kind = "typical", status = "datasheet", source = "s" }
pixel_um = { value = 3, unit = "um", kind = "exact", status = "datasheet", source = "s" }
quantum_efficiency = { value = 0.6, unit = "1", kind = "typical", status = "datasheet", source = "s" }
dark_current_e_per_s = { value = 5, unit = "electron/s", kind = "typical", status = "datasheet", source = "s" }
dark_reference_c = { value = 25, unit = "degC", kind = "typical", status = "datasheet", source = "s" }
dark_doubling_c = { value = 8, unit = "degC", kind = "typical", status = "assumed", source = "a guess" }
prnu = { value = 0.007, unit = "1", kind = "1sigma", status = "assumed", source = "a guess" }
dsnu_e = { value = 1, unit = "electron", kind = "1sigma", status = "datasheet", source = "s" }
row_noise_e = { value = 0, unit = "electron", kind = "1sigma", status = "datasheet", source = "s" }
exposure_time_s = { value = 0.01, unit = "s", kind = "typical", status = "datasheet", source = "s" }
temperature_c = { value = 25, unit = "degC", kind = "typical", status = "datasheet", source = "s" }
f_number = { value = 2.8, unit = "1", kind = "typical", status = "datasheet", source = "s" }
transmission = { value = 0.9, unit = "1", kind = "typical", status = "datasheet", source = "s" }
reflectance = { value = 0.9, unit = "1", kind = "typical", status = "datasheet", source = "s" }

[hdr]
method = "multi-exposure"

[hdr.hand_over]
value = 0.9
unit = "1"
kind = "typical"
status = "datasheet"
source = "s"

[[hdr.captures]]
name = "short"
sensitivity = { value = 0.1, unit = "1", kind = "exact", status = "datasheet", source = "s" }
full_well_e = { value = 10000, unit = "electron", kind = "typical", status = "datasheet", source = "s" }
read_noise_e = { value = 2, unit = "electron", kind = "1sigma", status = "datasheet", source = "s" }
gain_dn_per_e = { value = 0.4, unit = "DN/electron", kind = "typical", status = "datasheet", source = "s" }
dark_current_e_per_s = { value = 5, unit = "electron/s", kind = "typical", status = "datasheet", source = "s" }

[[hdr.captures]]
name = "shorter"
sensitivity = { value = 0.01, unit = "1", kind = "exact", status = "datasheet", source = "s" }
full_well_e = { value = 10001, unit = "electron", kind = "typical", status = "datasheet", source = "s" }
read_noise_e = { value = 2, unit = "electron", kind = "1sigma", status = "datasheet", source = "s" }
gain_dn_per_e = { value = 0.4, unit = "DN/electron", kind = "typical", status = "datasheet", source = "s" }
dark_current_e_per_s = { value = 5, unit = "electron/s", kind = "typical", status = "datasheet", source = "s" }

[hdr.companding]
title = "Halved above 256"

[hdr.companding.input_dn]
values = [
  0, 256,
  65536,
]
unit = "DN"
kind = "exact"
status = "datasheet"
source = "s"

[hdr.companding.output_dn]
values = [0, 256, 1024]
unit = "DN"
kind = "exact"
status = "datasheet"
source = "s"

[operating_points]
day = { value = 0.5, unit = "1", kind = "typical", status = "assumed", source = "a guess" }
"""


def write(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_converters_come_first_and_say_what_their_names_say():
    names = [f"adc-{bits}bit" for bits in range(2, 17)]
    assert sensor_names()[: len(names)] == names
    for bits, name in enumerate(names, start=2):
        profile = load_sensor(name)
        assert (profile.name, profile.bits.value, profile.steps) == (name, bits, 2**bits - 1)
        assert str(profile.steps) in profile.bits.source


@pytest.mark.parametrize(
    ("name", "record"),
    [("adc-8bit", ConverterProfile), ("camera-imx477", CameraProfile), ("lidar-vlp16", LidarProfile)],
)
def test_a_kind_is_read_into_its_record(name, record):
    assert isinstance(load_sensor(name), record)


def test_a_profile_of_ones_own(tmp_path):
    profile = load_sensor(write(tmp_path, GOOD))
    assert profile.steps == 1023
    assert profile.assumed == ("bits",)
    assert profile.sha256 != load_sensor("adc-10bit").sha256


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("value = 10", "value = ten", r"mine\.toml: not valid TOML.*line 6"),
        ("value = 10", 'value = "ten"', r"mine\.toml, line 6: field bits\.value: .*got 'ten'"),
        ("value = 10", "value = 10\nvolts = 3", r"line 7: field bits\.volts: unknown field; known: value"),
        (
            'source = "a guess"',
            "",
            r"line 5: field bits\.source: expected text of 1 to 2000 characters, got none; add it",
        ),
        ('kind = "converter"', 'kind = "film"', r"line 2: field kind: expected one of .*camera.*, got 'film'"),
        ('kind = "converter"', "", r"line 1: field kind: .*got None"),
        ('kind = "converter"', 'kind = "camera"', r"field full_well_e: expected a table, got none; add it"),
        ("value = 10", "value = 17", r"line 5: field bits: expected a whole number from 1 to 16, got 17"),
        ("value = 10", "value = 9.5", r"field bits: expected a whole number from 1 to 16, got 9\.5"),
        ("value = 10", "value = nan", r"field bits\.value"),
        ('unit = "bit"', 'unit = "volt"', r"field bits: expected the unit 'bit', got 'volt'"),
        ('name = "mine"', 'name = "../mine"', r"line 1: field name"),
    ],
)
def test_a_wrong_field_is_named_with_its_line(tmp_path, old, new, message):
    with pytest.raises(FileFormatError, match=message):
        load_sensor(write(tmp_path, GOOD.replace(old, new)))


def line(text, part, nth=1):
    """The line of the nth one that begins so."""
    return [number for number, each in enumerate(text.splitlines(), 1) if each.startswith(part)][nth - 1]


@pytest.mark.parametrize(
    ("old", "new", "place", "message"),
    [
        (
            'prnu = { value = 0.007, unit = "1"',
            'prnu = { value = 0.007, unit = "%"',
            ("prnu",),
            "field prnu: expected the unit '1'",
        ),
        ("prnu = { value = 0.007", "prnu = { value = 7", ("prnu",), "field prnu: expected a number from 0 to 1, got 7"),
        (
            "value = 10001",
            "value = 0",
            ("full_well_e", 3),
            r"field hdr\.captures\.full_well_e: expected a number from 1 to 1e\+08, got 0",
        ),
        (
            "value = 10001",
            "valu = 10001",
            ("full_well_e", 3),
            r"hdr\.captures\.full_well_e\.valu: .*did you mean 'value'",
        ),
        (
            'name = "shorter"\n',
            "",
            ("[[hdr.captures]]", 2),
            r"field hdr\.captures\.name: expected text of 1 to 32 characters, got none",
        ),
        (
            'name = "shorter"',
            'name = "shorter"\nwell = 3',
            ("well",),
            r"field hdr\.captures\.well: unknown field; .*full_well_e",
        ),
        (
            "  0, 256,\n  65536,",
            "  0, 256,\n  200,",
            ("[hdr.companding]",),
            r"hdr\.companding: input_dn: expected values that rise",
        ),
        ("values = [0, 256, 1024]", 'values = [0, 256, "x"]', ("values", 2), r"output_dn\.values: .*got 'x'"),
        (
            "value = 0.9\nunit",
            "value = 0\nunit",
            ("[hdr.hand_over]",),
            r"field hdr\.hand_over: expected a number above 0",
        ),
        ("day = { value", "Day = { value", ("Day",), r"field operating_points\.Day"),
        (
            "day = { value = 0.5",
            "day = { vale = 0.5",
            ("day",),
            r"operating_points\.day\.vale: unknown field; did you mean 'value'",
        ),
        ('method = "multi-exposure"', 'method = "magic"', ("method",), r"field hdr\.method: .*got 'magic'"),
    ],
)
def test_a_wrong_field_deep_in_a_camera_is_named_with_its_line(tmp_path, old, new, place, message):
    assert CAMERA.count(old) == 1
    text = CAMERA.replace(old, new)
    with pytest.raises(FileFormatError, match=message) as caught:
        load_sensor(write(tmp_path, text))
    assert f"line {line(text, *place)}: " in str(caught.value)


def test_a_camera_of_ones_own(tmp_path):
    profile = load_sensor(write(tmp_path, CAMERA))
    assert profile.numbers["hdr.captures.1.full_well_e"].value == 10001
    assert set(profile.assumed) == {"dark_doubling_c", "prnu", "operating_points.day"}
    assert profile.hdr.companding.input_dn.values == (0, 256, 65536)


@pytest.mark.parametrize(
    ("text", "field", "expected"),
    [
        ('a = """\n[b]\nc = 1\n"""\n[b]\nc = 2\n', ["b", "c"], 6),
        ("a = '''\nc = 1\n'''\nc = 2\n", ["c"], 4),
        ("a = [\n  [1, 2],\n]\nb = 1 # [x]\n[c]\nd = 1\n", ["c", "d"], 6),
        ("a = [\n  [1, 2],\n]\nb = 1\n", ["b"], 4),
        ('"b" = 1\n', ["b"], 1),
        ("a.b = 1\na.c = 2\n", ["a", "c"], 2),
        ("[[a]]\nb = 1\n[a.c]\nd = 1\n[[a]]\nb = 2\n[a.c]\nd = 3\n", ["a", 1, "c", "d"], 8),
        ("[[a]]\n[[a.b]]\nc = 1\n[[a]]\n[[a.b]]\nc = 2\n[[a.b]]\nc = 3\n", ["a", 1, "b", 1, "c"], 8),
        ("[[a]]\n[[a.b]]\nc = 1\n[[a]]\n[[a.b]]\nc = 2\n[[a.b]]\nc = 3\n", ["a", 0, "b", 0, "c"], 3),
        ("x = 1\r\n[a]\r\nb = 2\r\n", ["a", "b"], 3),
        ('a = "[" # {\n[b]\nc = 1\n', ["b", "c"], 3),
        ("a = { b = 1 }\n", ["a", "b"], 1),
        ("a = 1\n", ["absent"], 1),
    ],
)
def test_lines_of_fields(text, field, expected):
    assert line_of(text, field) == expected


def test_settings_are_assumed_and_say_who_set_them(tmp_path):
    profile = with_settings(load_sensor(write(tmp_path, CAMERA)), {"read_noise_e": 5, "hdr.captures.1.read_noise_e": 7})
    assert (profile.read_noise_e.value, profile.hdr.captures[1].read_noise_e.value) == (5, 7)
    assert {"read_noise_e", "hdr.captures.1.read_noise_e"} <= set(profile.assumed)
    assert "set by the user" in profile.read_noise_e.source
    with pytest.raises(UnknownNameError, match="did you mean 'read_noise_e'"):
        with_settings(profile, {"read_noise": 5})
    with pytest.raises(UsageError, match="prnu: expected a number from 0 to 1, got 2"):
        with_settings(profile, {"prnu": 2})


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileFormatError, match="cannot be read"):
        load_sensor(str(tmp_path / "absent.toml"))
    path = tmp_path / "binary.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileFormatError, match="cannot be read as text"):
        load_sensor(str(path))
    path.write_text("#" * (2**20 + 1))
    with pytest.raises(FileFormatError, match="under 1 MiB"):
        load_sensor(str(path))


def test_unknown_names_list_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'adc-8bit'"):
        load_sensor("adc-8bits")
    with pytest.raises(UnknownNameError, match="unknown noise"):
        sensor("adc-8bit", noise="pink")
    with pytest.raises(UnknownNameError, match="unknown placement"):
        sensor("adc-8bit", placement="everywhere")


@pytest.mark.parametrize(
    "settings", [{"bits": 0}, {"bits": 17}, {"steps": 0}, {"steps": 70000}, {"bits": 4, "steps": 15}, {"steps": 1.5}]
)
def test_resolutions_out_of_range_are_refused(settings):
    with pytest.raises(InvalidValueError):
        sensor("adc-8bit", **settings)


def test_an_override_is_part_of_the_key():
    assert sensor("adc-4bit").key == "adc-4bit"
    assert sensor("adc-4bit", steps=15).key == "adc-4bit"
    assert sensor("adc-4bit", bits=5).key == "adc-4bit/31 steps"


def test_a_channel_states_its_noise():
    sensed = channel("adc-4bit", ep=0.5)
    assert sensed.sigma * 15 == pytest.approx(0.7413, abs=1e-4)
    wrong, _ = integrate.quad(lambda t: 2 * stats.norm.sf(t / 0.7413), 0, 1)
    assert sensed.reading.ep_adc == pytest.approx(wrong, abs=1e-4)
    assert channel("adc-4bit", ep=None).reading.ep_adc is None
    with pytest.raises(InvalidValueError, match="0 < EP < 1"):
        channel("adc-4bit", ep=1.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ('value = true, unit = "bit"', "expected a number"),
        ('value = 1e300, unit = "bit"', "a whole number from 1 to 16"),
    ],
)
def test_a_number_is_a_number_of_a_possible_size(tmp_path, wrong, message):
    text = (content.shelf("sensors") / "camera-imx477.toml").read_text(encoding="utf-8")
    path = tmp_path / "mine.toml"
    path.write_text(text.replace('value = 12, unit = "bit"', wrong), encoding="utf-8")
    with pytest.raises(FileFormatError, match=message):
        load_sensor(path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("   ", "expected text of 1 to 2000 characters, got '   '"),
        ("a\\u001b[31mb", "printable"),
        ("a\\u202eb", "printable"),
    ],
)
def test_a_source_says_something_that_a_terminal_can_show(tmp_path, source, message):
    text = (content.shelf("sensors") / "adc-4bit.toml").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("source"))
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(line, f'source = "{source}"'), encoding="utf-8")
    with pytest.raises(FileFormatError, match=message):
        load_sensor(path)


@pytest.mark.parametrize("value", [1e300, 1e-300])
@pytest.mark.parametrize("name", ["full_well_e", "gain_dn_per_e", "f_number", "dark_doubling_c", "pixel_um"])
def test_an_impossible_number_is_refused(name, value):
    with pytest.raises(UsageError, match="expected a number"):
        with_settings(load_sensor("camera-imx477"), {name: value})


def test_a_profile_is_a_regular_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "endless.toml").symlink_to("/dev/zero")
    for name in ("pipe.toml", "endless.toml"):
        with pytest.raises(FileFormatError, match="expected a file, got a folder, pipe or device"):
            load_sensor(tmp_path / name)
