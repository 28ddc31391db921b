"""From illuminance to exposure against a worked example, and the way back."""

import pytest
from scipy import constants

from robustcheck.errors import InvalidValueError
from robustcheck.sensing.optics import electrons_per_lux, exposure_of_lux, lux_of_exposure
from robustcheck.sensing.profile import load_sensor, with_settings

LENS = {"f_number": 2.0, "transmission": 0.8, "reflectance": 0.5, "exposure_time_s": 0.02}
CAMERA = with_settings(
    load_sensor("camera-imx255"), LENS | {"pixel_um": 4.0, "quantum_efficiency": 0.5, "full_well_e": 10000}
)


def test_a_worked_example():
    # 100 lux x 0.5 x 0.8 / (4 x 2^2) = 2.5 lux on the sensor = 3.660 mW/m^2; 16 um^2 and 20 ms give 1.1713e-15 J.
    joules = 2.5 / 683 * 16e-12 * 0.02
    photons = joules * 555e-9 / (constants.h * constants.c)
    assert photons == pytest.approx(3272, abs=1)
    assert 100 * electrons_per_lux(CAMERA) == pytest.approx(0.5 * photons, rel=1e-12)
    assert exposure_of_lux(CAMERA, 100) == pytest.approx(0.1636, abs=1e-4)


@pytest.mark.parametrize(
    ("number", "factor", "brighter"),
    [
        ("f_number", 2, 1 / 4),
        ("exposure_time_s", 0.5, 0.5),
        ("pixel_um", 2, 4),
        ("reflectance", 0.5, 0.5),
        ("transmission", 0.5, 0.5),
        ("quantum_efficiency", 0.5, 0.5),
        ("full_well_e", 2, 0.5),
    ],
)
def test_each_number_has_its_power(number, factor, brighter):
    changed = with_settings(CAMERA, {number: factor * CAMERA.numbers[number].value})
    assert exposure_of_lux(changed, 50) == pytest.approx(brighter * exposure_of_lux(CAMERA, 50), rel=1e-12)


@pytest.mark.parametrize("name", ["camera-imx477", "camera-ov-split-pixel"])
@pytest.mark.parametrize("exposure", [1e-3, 0.2, 1])
def test_there_and_back(name, exposure):
    profile = load_sensor(name)
    lux = lux_of_exposure(profile, exposure) * (1 - 1e-12)
    assert exposure_of_lux(profile, lux) == pytest.approx(exposure, rel=1e-9)


def test_several_captures_count_in_electrons_of_the_first():
    profile = load_sensor("camera-ov-split-pixel")
    last = profile.hdr.captures[-1]
    saturation = last.full_well_e.value / last.sensitivity.value
    assert exposure_of_lux(profile, 100) == pytest.approx(100 * electrons_per_lux(profile) / saturation, rel=1e-12)


def test_light_that_saturates_is_refused_with_the_largest():
    most = lux_of_exposure(CAMERA, 1)
    assert exposure_of_lux(CAMERA, most * 0.999999) < 1
    with pytest.raises(InvalidValueError, match=rf"at most {most:.4g} lux"):
        exposure_of_lux(CAMERA, most * 1.001)


@pytest.mark.parametrize("lux", [0, -1.0, float("nan"), float("inf"), "100"])
def test_no_light_is_refused(lux):
    with pytest.raises(InvalidValueError, match="lux above 0"):
        exposure_of_lux(CAMERA, lux)


@pytest.mark.parametrize("exposure", [0, 1.5, float("nan")])
def test_no_exposure_is_refused(exposure):
    with pytest.raises(InvalidValueError, match="0 < exposure <= 1"):
        lux_of_exposure(CAMERA, exposure)
