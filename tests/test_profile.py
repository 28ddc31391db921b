"""Sensor profiles: the shipped ones, and every way a file can be wrong."""

import pytest
from scipy import integrate, stats

from robustcheck.errors import FileFormatError, InvalidValueError, UnknownNameError
from robustcheck.sensing.channel import channel, sensor
from robustcheck.sensing.profile import load_sensor, sensor_names

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


def write(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_every_shipped_profile_says_what_its_name_says():
    names = sensor_names()
    assert names == [f"adc-{bits}bit" for bits in range(2, 17)]
    for bits, name in enumerate(names, start=2):
        profile = load_sensor(name)
        assert (profile.name, profile.bits.value, profile.steps) == (name, bits, 2**bits - 1)
        assert str(profile.steps) in profile.bits.source


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
        ('source = "a guess"', "", r"line 5: field bits\.source: Field required"),
        ('kind = "converter"', 'kind = "camera"', r"line 2: field kind"),
        ("value = 10", "value = 17", r"field bits: expected a whole number of bits from 1 to 16, got 17 bit"),
        ("value = 10", "value = nan", r"field bits\.value"),
        ('unit = "bit"', 'unit = "volt"', r"got 10 volt"),
        ('name = "mine"', 'name = "../mine"', r"line 1: field name"),
    ],
)
def test_a_wrong_field_is_named_with_its_line(tmp_path, old, new, message):
    with pytest.raises(FileFormatError, match=message):
        load_sensor(write(tmp_path, GOOD.replace(old, new)))


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
    assert sensed.ep_adc == pytest.approx(wrong, abs=1e-4)
    assert channel("adc-4bit", ep=None).ep_adc is None
    with pytest.raises(InvalidValueError, match="0 < EP < 1"):
        channel("adc-4bit", ep=1.0)
