"""`robustcheck sensors ep` and `plot`: from light to error probability and back, and what is refused."""

import json
import re

import pytest
from click.testing import CliRunner

from robustcheck.cli.sensor_points import ep, plot
from robustcheck.errors import UsageError
from robustcheck.sensing.camera_ep import exposure_reach, gain_reach
from robustcheck.sensing.channel import channel
from robustcheck.sensing.error_probability import noise_sigma
from robustcheck.sensing.profile import load_sensor, with_settings


def asked(*arguments):
    result = CliRunner().invoke(ep, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments):
    with pytest.raises(UsageError) as caught:
        CliRunner().invoke(ep, arguments, catch_exceptions=False)
    return str(caught.value)


def answer(*arguments):
    return json.loads(asked(*arguments, "--json"))


def test_a_converter_is_reckoned_as_before():
    found = answer("--bits", "4", "--ep", "0.5")
    assert found["sigma"] == noise_sigma(0.5, 15)
    assert found["ep_centre"] == pytest.approx(0.5)
    assert answer("adc-4bit", "--ep", "0.5") == found


def test_a_camera_at_an_exposure_says_noise_and_both_error_probabilities():
    (row,) = answer("camera-imx477", "--exposure", "0.1", "--bits", "8")["points"]
    reading = channel("camera-imx477", exposure=0.1, bits=8).reading
    assert row["electrons"] == pytest.approx(818)
    assert (row["ep_centre"], row["ep_adc"], row["sigma_codes"]) == (reading.ep, reading.ep_adc, reading.sigma_steps)
    # sqrt(818 + 3²) electrons and a little dark current, at 0.47 DN/electron and a sixteenth of it at 8 bits
    assert row["sigma_codes"] == pytest.approx(0.47 / 16 * (818 + 9) ** 0.5, rel=1e-3)


def test_without_an_exposure_the_profiles_own_points_are_shown_by_name():
    text = asked("camera-imx477")
    for name in ("daylight", "night", "ep_centre", "assumed (no source)"):
        assert name in text
    assert [row["point"] for row in answer("lidar-vlp16")["points"]] == ["clear", "haze", "fog", "dense-fog"]


def test_an_illuminance_is_the_share_that_it_gives():
    (row,) = answer("camera-imx477", "--exposure", "50lx")["points"]
    assert row["point"] == "50 lx"
    assert row["lux"] == pytest.approx(50)
    (same,) = answer("camera-imx477", "--exposure", f"{row['exposure']!r}")["points"]
    assert same["lux"] == pytest.approx(50)


def test_an_ep_is_found_by_exposure_bits_and_gain():
    found = answer("camera-imx477", "--exposure", "0.5", "--at-ep", "0.9")["at_ep"]
    exposure = found["exposure"]["value"]
    assert channel("camera-imx477", exposure=exposure).reading.ep == pytest.approx(0.9, abs=1e-6)
    (at,) = found["at"]
    bits, gain = at["bits"]["value"], at["gain_dn_per_e"]["value"]
    moved = channel("camera-imx477", ep=0.9, vary="bits").reading
    assert moved.bits == pytest.approx(bits)
    geared = channel("camera-imx477", exposure=0.5, settings={"gain_dn_per_e": gain}).reading
    assert geared.ep == pytest.approx(0.9, abs=1e-6)


def test_an_ep_that_one_way_alone_reaches_is_answered_with_the_range_of_the_others():
    text = asked("camera-imx477", "--at-ep", "0.5", "--exposure", "0.5")
    assert "EP 0.5 at exposure: none: it gives EP 0.723 (in the dark) to 0.991 (at exposure 0.998)" in text
    assert re.search(r"EP 0\.5 at exposure 0\.5 by bits: 6\.6\d* bits", text)
    found = answer("camera-imx477", "--at-ep", "0.5", "--exposure", "0.5")["at_ep"]
    assert found["exposure"] == {
        "value": None,
        "why": "it gives EP 0.723 (in the dark) to 0.991 (at exposure 0.998)",
    }
    high = answer("camera-imx477", "--at-ep", "0.9975", "--exposure", "0.1")["at_ep"]["at"][0]
    assert high["bits"]["value"] == pytest.approx(15.56, abs=0.01)
    assert "to 0.997 (at 4.69 DN/electron)" in high["gain_dn_per_e"]["why"]


def test_an_ep_that_no_way_reaches_is_an_error_with_the_range_of_each():
    assert refused("camera-imx477", "--at-ep", "0.5").splitlines() == [
        "--at-ep: expected an EP that camera-imx477 has somewhere, got 0.5; use one of these, or add --exposure, where "
        "bits and gain are moved too:",
        "  by exposure, at 12 bits: it gives EP 0.723 (in the dark) to 0.991 (at exposure 0.998)",
    ]
    said = refused("camera-imx477", "--at-ep", "0.999", "--exposure", "0.1", "--json").splitlines()
    assert said[0].endswith("got 0.999; use one of these:")
    assert said[2] == "  by bits, at exposure 0.1: it gives EP 0 (at 1 bit) to 0.998 (at 16 bit)"
    assert said[3].startswith(
        "  by gain, at exposure 0.1 and 12 bits: it gives EP 0 (at 4.69e-06 DN/electron) to 0.997"
    )
    assert "--vary" not in "".join(said)


def test_the_ranges_are_those_of_the_resolution_in_use():
    profile = load_sensor("camera-imx477")
    said = refused("camera-imx477", "--bits", "4", "--exposure", "0.5", "--at-ep", "0.9999")
    assert f"by exposure, at 4 bits: it gives EP {exposure_reach(profile, bits=4)}" in said
    assert f"by gain, at exposure 0.5 and 4 bits: it gives EP {gain_reach(profile, exposure=0.5, bits=4)}" in said
    assert exposure_reach(profile, bits=4).high < exposure_reach(profile, bits=12).high
    assert gain_reach(profile, exposure=0.5, bits=4).high < gain_reach(profile, exposure=0.5, bits=12).high


def test_what_cannot_be_moved_in_a_camera_is_said():
    (at,) = answer("camera-ox03c10", "--exposure", "0.1", "--at-ep", "0.99")["at_ep"]["at"]
    assert "the companding is made for its own 12" in at["bits"]["why"]
    assert "expected one capture, got 4" in at["gain_dn_per_e"]["why"]


@pytest.mark.parametrize(
    ("bits", "steps"), [(2.5, "4 (2.322 bits) or 5 (2.585 bits)"), (1.2, "1 (1 bits) or 2 (1.585 bits)")]
)
def test_bits_between_two_numbers_of_steps_are_refused_and_not_moved(bits, steps):
    for arguments in (("--ep", "0.5"), ("camera-imx477",), ("adc-4bit", "--ep", "0.5")):
        assert f"got {bits}; use steps {steps}" in refused(*arguments, "--bits", str(bits))


def test_bits_of_a_number_of_steps_are_that_number():
    assert answer("--bits", "2.585", "--ep", "0.5")["steps"] == 5
    assert answer("camera-imx477", "--bits", "6.66")["bits"] == pytest.approx(6.66, abs=0.005)


def test_a_set_number_counts():
    (row,) = answer("camera-imx477", "--exposure", "0.1", "--set", "read_noise_e=30")["points"]
    assert row["sigma_codes"] == pytest.approx(0.47 * (818 + 900) ** 0.5, rel=1e-3)


def test_a_lidar_has_two_error_probabilities():
    rows = answer("lidar-vlp16", "--signal", "0.1:1:2")["points"]
    assert [row["signal"] for row in rows] == [0.1, 1.0]
    assert all(0 < row["range_ep"] < 1 and 0 < row["intensity_ep"] < 1 for row in rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "expected two of --ep, --sigma and --bits"),
        (("--exposure", "0.1", "--set", "prnu=0"), "--exposure, --set: expected NAME, the sensor that is meant"),
        (("camera-imx477", "--ep", "0"), "--ep: expected a converter, got camera-imx477, a camera; its noise is its"),
        (("camera-imx477", "--sigma", "0.5"), "use --exposure, and --at-ep for the way back"),
        (("camera-imx477", "--signal", "0.5"), "--signal: expected a LIDAR, got camera-imx477, a camera"),
        (("lidar-vlp16", "--exposure", "0.5"), "--exposure: expected a camera, got lidar-vlp16, a LIDAR"),
        (("lidar-vlp16", "--ep", "0.5"), "--ep: expected a converter, got lidar-vlp16, a LIDAR; its noise is its own"),
        (("lidar-vlp16", "--at-ep", "0.5"), "a LIDAR; its noise is its own: use --signal"),
        (("adc-4bit", "--signal", "0.5", "--exposure", "1"), "--exposure, --signal: expected a camera or a LIDAR, got"),
        (("adc-4bit", "--exposure", "0.5"), "a converter; no light decides its noise: use --ep or --sigma"),
        (("adc-4bit",), "adc-4bit: expected --ep or --sigma, got none"),
        (("adc-4bit", "--ep", "0.5", "--sigma", "0.1"), "adc-4bit: expected --ep or --sigma, got both"),
        (("camera-imx477", "--exposure", "2"), "expected 0 < exposure <= 1"),
        (("camera-imx477", "--at-ep", "2"), "expected 0 < EP < 1"),
        (("camera-imx478",), "or 'camera-imx477'?"),
    ],
)
def test_options_that_do_not_belong_together_are_refused(arguments, message):
    assert message in refused(*arguments)


@pytest.mark.parametrize("name", ["camera-imx477", "lidar-vlp16", "adc-4bit", "camera-ov-split-pixel"])
def test_a_plot_of_each_kind_is_drawn(name, tmp_path):
    out = tmp_path / "drawn.svg"
    result = CliRunner().invoke(plot, [name, "-o", str(out)], catch_exceptions=False)
    assert result.exit_code == 0
    assert out.read_text(encoding="utf-8").startswith("<svg")


def drawn(tmp_path, *arguments):
    out = tmp_path / "drawn.svg"
    assert CliRunner().invoke(plot, [*arguments, "-o", str(out)], catch_exceptions=False).exit_code == 0
    return out.read_text(encoding="utf-8")


@pytest.mark.parametrize("arguments", [("camera-imx477", "--set", "read_noise_e=5"), ("lidar-vlp16",)])
def test_a_plot_says_which_numbers_are_assumed(arguments, tmp_path):
    profile = load_sensor(arguments[0])
    profile = with_settings(profile, {"read_noise_e": 5} if profile.kind == "camera" else {})
    text = drawn(tmp_path, *arguments)
    assert f"{len(profile.assumed)} of its {len(profile.numbers)} numbers are assumed, having no source" in text
    for name in profile.assumed:
        assert re.search(rf"[ >]{re.escape(name)}[,.]", text), name


def test_a_plot_of_a_converter_has_the_resolution_that_is_asked_for(tmp_path):
    text = drawn(tmp_path, "adc-4bit", "--bits", "8")
    assert "No number of it is assumed." in text
    assert "a step is 1/255 of full scale" in text
    assert ">Generic 4-bit converter, at 8 bits<" in text
    assert ">Generic 4-bit converter<" in drawn(tmp_path, "adc-4bit", "--bits", "4")


def test_a_plot_must_be_a_picture(tmp_path):
    with pytest.raises(UsageError) as caught:
        CliRunner().invoke(plot, ["adc-4bit", "-o", str(tmp_path / "drawn.pdf")], catch_exceptions=False)
    assert ".png or .svg" in str(caught.value)
