"""`robustcheck sensors ep` and `plot`: from light to error probability and back, and what is refused."""

import json

import pytest
from click.testing import CliRunner

from robustcheck.cli.sensor_points import ep, plot
from robustcheck.errors import UsageError
from robustcheck.sensing.channel import channel
from robustcheck.sensing.error_probability import noise_sigma


def asked(*arguments):
    result = CliRunner().invoke(ep, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


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


def test_an_ep_out_of_reach_is_said_and_not_an_error():
    text = asked("camera-imx477", "--at-ep", "0.5")
    assert "EP 0.5 at exposure: camera-imx477 at 12 bits: expected an EP from 0.72" in text


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
        (("--exposure", "0.1"), "--exposure: expected NAME with it"),
        (("camera-imx477", "--ep", "0.5"), "--ep: expected --at-ep with camera-imx477"),
        (("camera-imx477", "--sigma", "0.5"), "--sigma: expected a converter, or no NAME with it"),
        (("camera-imx477", "--signal", "0.5"), "--signal: expected a LIDAR with it"),
        (("lidar-vlp16", "--exposure", "0.5"), "--exposure: expected a camera with it"),
        (("adc-4bit", "--signal", "0.5"), "--signal: expected a camera or LIDAR with it"),
        (("camera-imx477", "--exposure", "2"), "expected 0 < exposure <= 1"),
        (("camera-imx477", "--at-ep", "2"), "expected 0 < EP < 1"),
        (("camera-imx478",), "or 'camera-imx477'?"),
    ],
)
def test_options_that_do_not_belong_together_are_refused(arguments, message):
    with pytest.raises(UsageError) as caught:
        CliRunner().invoke(ep, arguments, catch_exceptions=False)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["camera-imx477", "lidar-vlp16", "adc-4bit", "camera-ov-split-pixel"])
def test_a_plot_of_each_kind_is_drawn(name, tmp_path):
    out = tmp_path / "drawn.svg"
    result = CliRunner().invoke(plot, [name, "-o", str(out)], catch_exceptions=False)
    assert result.exit_code == 0
    assert out.read_text(encoding="utf-8").startswith("<svg")


def test_a_plot_must_be_a_picture(tmp_path):
    with pytest.raises(UsageError) as caught:
        CliRunner().invoke(plot, ["adc-4bit", "-o", str(tmp_path / "drawn.pdf")], catch_exceptions=False)
    assert ".png or .svg" in str(caught.value)
