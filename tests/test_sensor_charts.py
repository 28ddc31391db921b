"""A sensor's own charts: what they draw is what the physics say, of every shipped profile."""

import math

import numpy as np
import pytest
from scipy.special import erfc
from scipy.stats import norm

from robustcheck.errors import InvalidValueError
from robustcheck.reporting.drawing import svg
from robustcheck.reporting.sensor_charts import sensor_charts, sensor_figure
from robustcheck.sensing.profile import load_sensor

KINDS = {
    "adc": {"ep"},
    "camera": {"photon-transfer", "snr", "ep-exposure", "ep-bits"},
    "lidar": {"range-error", "detection"},
}


def curves(chart):
    """Coordinates by name and kind of each line."""
    found = {}
    drawn = chart.to_dict(validate=False)
    for each in (drawn.get("data") or drawn["layer"][0]["data"])["values"]:
        found.setdefault((each["series"], each["kind"]), []).append((each["x"], each["y"]))
    return {name: np.array(points).T for name, points in found.items()}


def alone(chart):
    return {name: points for (name, _), points in curves(chart).items()}


def at(points, x):
    return np.interp(x, *points)


@pytest.fixture(scope="module")
def imx477():
    return sensor_charts(load_sensor("camera-imx477"))


@pytest.fixture(scope="module")
def vlp16():
    return sensor_charts(load_sensor("lidar-vlp16"))


@pytest.mark.parametrize("name", ["adc-4bit", "camera-imx477", "camera-ox03c10", "lidar-os1-64"])
def test_every_kind_has_its_charts_within_their_axes(name):
    drawn = sensor_charts(load_sensor(name))
    assert set(drawn) == KINDS[name.split("-")[0]]
    for chart in drawn.values():
        encoding = chart.to_dict()["layer"][0]["encoding"]
        for points in curves(chart).values():
            for axis, values in zip("xy", points, strict=True):
                assert np.isfinite(values).all()
                low, high = encoding[axis]["scale"].get("domain", (-math.inf, math.inf))
                assert (low <= values).all()
                assert (values <= high).all()


def test_a_figure_has_all_of_them():
    drawn = svg(sensor_figure(load_sensor("lidar-vlp16")))
    assert ">Range error against range<" in drawn
    assert ">Detection against range<" in drawn


def test_photon_transfer_is_shot_noise_over_a_floor(imx477):
    found = alone(imx477["photon-transfer"])
    # EMVA 1288: variance K² (σ_d² + σ_q²/K² + mu); K = .47 DN/e-, read noise 3 e-.
    for signal in (1.0, 30.0, 1000.0):
        assert at(found["shot noise"], signal) == pytest.approx(0.47 * signal, rel=0.02)
        assert at(found["all noise"], signal) == pytest.approx(0.47 * signal + (0.47 * 3) ** 2 + 1 / 12, rel=0.03)
    assert at(found["quantisation"], 10.0) == pytest.approx(1 / 12, rel=1e-4)
    (saturation,) = [
        value["x"] for layer in imx477["photon-transfer"].to_dict()["layer"][1:] for value in layer["data"]["values"]
    ][:1]
    x, y = found["all noise"]
    assert saturation == pytest.approx(x[y.argmax()], rel=0.02)


def test_signal_to_noise_ratio_is_that_of_the_linear_model(imx477):
    found = alone(imx477["snr"])
    for exposure in (0.001, 0.01, 0.5):
        mu = 8180 * exposure
        assert at(found["shot noise alone"], exposure) == pytest.approx(10 * math.log10(mu), abs=0.1)
        noise = math.sqrt(mu + 9 + 0.01 + 1 / 12 / 0.47**2)
        assert at(found["temporal noise"], exposure) == pytest.approx(20 * math.log10(mu / noise), abs=0.1)
    assert (found["with PRNU and DSNU"][1] <= found["temporal noise"][1] + 1e-9).all()


def test_error_probability_is_that_of_gaussian_noise(imx477):
    by_bits, by_exposure = alone(imx477["ep-exposure"]), alone(imx477["ep-bits"])
    assert list(by_bits) == ["12 bits", "10 bits", "8 bits", "6 bits", "4 bits"]
    assert list(by_exposure) == ["0.5 (daylight)", "0.1 (indoor)", "0.01 (dusk)", "0.001 (night)"]
    for bits, exposure in ((12, 0.1), (10, 0.1), (8, 0.5)):
        sigma = 0.47 * 2 ** (bits - 12) * math.sqrt(8180 * exposure + 9)
        expected = erfc(1 / (2 * math.sqrt(2) * sigma))
        assert at(by_bits[f"{bits} bits"], exposure) == pytest.approx(expected, abs=0.005)
        name = "0.1 (indoor)" if exposure == 0.1 else "0.5 (daylight)"
        assert at(by_exposure[name], bits) == pytest.approx(expected, abs=0.005)


def test_another_resolution_moves_the_charts():
    drawn = sensor_charts(load_sensor("camera-imx477"), bits=9)
    assert "9 bits" in alone(drawn["ep-exposure"])
    floor = alone(drawn["photon-transfer"])["shot noise"]
    assert at(floor, 50.0) == pytest.approx(0.47 / 8 * 50, rel=0.02)


def test_a_resolution_out_of_range_is_an_error():
    with pytest.raises(InvalidValueError, match="bits"):
        sensor_charts(load_sensor("camera-imx477"), bits=99)


def test_named_operating_points_outside_the_axis_are_left_out():
    profile = load_sensor("camera-ox03c10")
    night = profile.operating_points["night"].value
    assert night < 1e-4
    drawn = svg(sensor_charts(profile)["snr"])
    assert ">dusk<" in drawn
    assert ">night<" not in drawn


def test_detection_is_half_at_the_range_of_a_ten_percent_reflector(vlp16):
    profile = load_sensor("lidar-vlp16")
    found = curves(vlp16["detection"])
    assert len(found) == 2 * len(profile.operating_points)
    reach, threshold = profile.range_at_10_percent_m.value, profile.detection_snr.value
    assert at(found["signal 1 (clear)", "10 % reflector"], reach) == pytest.approx(0.5, abs=0.01)
    for (name, kind), points in found.items():
        signal, share = float(name.split()[1]), float(kind.split()[0]) / 100
        for metres in (10.0, 40.0):
            snr = threshold * signal * share / 0.1 * (reach / metres) ** 2
            assert at(points, metres) == pytest.approx(norm.cdf(snr - threshold), abs=0.01)


def test_range_error_rises_to_that_at_the_limit_of_detection(vlp16):
    profile = load_sensor("lidar-vlp16")
    strong, limit = 100 * profile.range_noise_m.value, 100 * profile.range_noise_limit_m.value
    for _, centimetres in curves(vlp16["range-error"]).values():
        assert (np.diff(centimetres) >= 0).all()
        assert centimetres[0] == pytest.approx(strong, rel=0.02)
        assert centimetres[-1] <= limit * 1.001
    metres, centimetres = curves(vlp16["range-error"])["signal 1 (clear)", "10 % reflector"]
    assert metres[-1] == pytest.approx(profile.range_at_10_percent_m.value, abs=0.5)
    assert centimetres[-1] == pytest.approx(limit, rel=0.05)


def test_a_converter_has_both_definitions_of_error_probability():
    found = alone(sensor_charts(load_sensor("adc-4bit"))["ep"])
    for s in (0.25, 0.5, 1.0):
        centre = erfc(1 / (2 * math.sqrt(2) * s))
        adc = erfc(1 / (s * math.sqrt(2))) + s * math.sqrt(2 / math.pi) * (1 - math.exp(-1 / (2 * s * s)))
        assert at(found["a value on a code's centre"], s) == pytest.approx(centre, abs=1e-3)
        assert at(found["a value anywhere in its code"], s) == pytest.approx(adc, abs=1e-3)
