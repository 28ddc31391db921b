"""From the light of a scene to a camera's exposure, and back.

A white diffuse object of reflectance ρ under an illuminance E gives, in the image plane of a lens of f-number N and
transmission T, the illuminance E_s = E ρ T / (4 N²) on the axis: the camera equation with a magnification of 0, that of
a distant object, in 4 N² (1 + m)² (D. M. Jacobson and J. Bercovitz, Photographic Lenses Tutorial, 1996, part 6). The
light counts as monochromatic at 555 nm, where one watt is 683 lumens (definition of the candela in the SI). So a pixel
of area A gets E_s A t / 683 · λ / (h c) photons in the time t, and η of them become electrons.

That leaves out the spectrum: a lux of broad light has several times as many photons, most of which the eye hardly
counts, while η is less away from its peak and a colour filter passes a part of them. Off its axis a lens gives less
light. Take the result for the right order.
"""

from __future__ import annotations

import math
from typing import Final

from robustcheck.errors import InvalidValueError
from robustcheck.sensing.camera import saturation_e
from robustcheck.sensing.camera_profile import CameraProfile
from robustcheck.sensing.operating_point import check_share

LUMENS_PER_WATT: Final = 683.0
"""Luminous efficacy of light at 540 THz, by definition of the SI; within 0.01 % of that at 555 nm."""
WAVELENGTH_M: Final = 555e-9
PLANCK_J_S: Final = 6.62607015e-34
LIGHT_SPEED_M_PER_S: Final = 299_792_458.0


def electrons_per_lux(profile: CameraProfile) -> float:
    """Electrons of the first capture that white gives for each lux on the scene; see the module for the equation.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> electrons_per_lux(load_sensor("camera-imx477")) > 0
    True
    """
    image_lux = profile.reflectance.value * profile.transmission.value / (4 * profile.f_number.value**2)
    photons_per_joule = WAVELENGTH_M / (PLANCK_J_S * LIGHT_SPEED_M_PER_S)
    area_m2 = (profile.pixel_um.value * 1e-6) ** 2
    joules = image_lux / LUMENS_PER_WATT * area_m2 * profile.exposure_time_s.value
    return joules * photons_per_joule * profile.quantum_efficiency.value


def exposure_of_lux(profile: CameraProfile, lux: float) -> float:
    """The exposure that a scene's illuminance gives.

    Args:
        profile: the camera; its lens, white object and exposure time count too.
        lux: illuminance on the scene, > 0.

    Returns:
        Share of saturation that white fills, in (0, 1].

    Raises:
        InvalidValueError: the illuminance is no positive number, or saturates white; the message names the largest.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> camera = load_sensor("camera-imx477")
    >>> round(exposure_of_lux(camera, lux_of_exposure(camera, 0.25)), 6)
    0.25
    """
    if not (isinstance(lux, int | float) and 0 < lux < math.inf):
        raise InvalidValueError("illuminance", expected="lux above 0", got=lux)
    exposure = lux * electrons_per_lux(profile) / saturation_e(profile)
    if exposure > 1:
        most = f"at most {lux_of_exposure(profile, 1):.4g} lux, at which white saturates {profile.name}"
        remedy = "shorten exposure_time_s or raise f_number with --set"
        raise InvalidValueError("illuminance", expected=most, got=lux, remedy=remedy)
    return exposure


def lux_of_exposure(profile: CameraProfile, exposure: float) -> float:
    """The illuminance on the scene [lux] that gives an exposure; the inverse of `exposure_of_lux`.

    Args:
        profile: the camera.
        exposure: share of saturation that white fills, in (0, 1].

    Raises:
        InvalidValueError: the exposure is out of range.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> camera = load_sensor("camera-imx477")
    >>> lux_of_exposure(camera, 0.5) < lux_of_exposure(camera, 1)
    True
    """
    return check_share(exposure, "exposure") * saturation_e(profile) / electrons_per_lux(profile)
