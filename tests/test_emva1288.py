"""The camera measured as a camera: flat fields and darks, analysed by the reference implementation of EMVA 1288.

The analysis is the oracle; the simulator of that package is not, since it both dithers and rounds.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from emva1288.process.data import Data1288
from emva1288.process.results import Results1288
from emva1288.process.routines import get_int_imgs

from robustcheck.sensing.camera import camera_setting, codes
from robustcheck.sensing.camera_curves import dynamic_range_db, photon_transfer, snr_max_db
from robustcheck.sensing.profile import load_sensor, with_settings
from robustcheck.sensing.srgb import from_linear

SIDE = 200
EXPOSURE_TIME_S = 0.01
STACK = 32
# Shares of the full well; dense where the variance peaks, since saturation is found to one step.
LIGHTS = np.concatenate([np.linspace(0.04, 0.88, 22), np.arange(0.89, 1.03, 0.0125)])
MAPS = {"prnu": 0.005, "dsnu_e": 2.0}


@pytest.fixture(autouse=True)
def _functions_that_numpy_no_longer_has(monkeypatch):
    monkeypatch.setattr(np, "asfarray", lambda values: np.asarray(values, dtype=float), raising=False)


def frames(profile, shares, first_id):
    """Codes of one flat field for each share of the full well, (n, SIDE, SIDE) int64."""
    full_well = profile.full_well_e.value
    setting = replace(camera_setting(profile, exposure=1.0), white_e=1.1 * full_well)
    light = from_linear(torch.tensor(shares, dtype=torch.float64) / 1.1).float()
    images = light.reshape(-1, 1, 1, 1).expand(-1, 1, SIDE, SIDE).contiguous()
    ids = first_id + torch.arange(len(images))
    return codes(images, setting, 0, "emva1288", ids, 0, device_seed=5)[:, 0].numpy().astype(np.int64)


def evaluate(profile):
    """What the analysis finds in pairs of frames over the light and stacks in the dark and at half the full well."""
    photons = profile.full_well_e.value / profile.quantum_efficiency.value
    shares = np.append(0.0, LIGHTS)
    pairs = frames(profile, np.repeat(shares, 2), 0).reshape(len(shares), 2, SIDE, SIDE)
    temporal = {}
    for share, pair in zip(shares, pairs, strict=True):
        sums = get_int_imgs(list(pair))
        totals = {"sum": sums["sum"].sum(), "pvar": sums["pvar"].sum(), "dmean": sums["dmean"]}
        temporal[float(share * photons)] = totals
    spatial = {
        share * photons: get_int_imgs(list(frames(profile, np.full(STACK, share), first_id)))
        for share, first_id in ((0.0, 1000), (0.5, 2000))
    }
    measured = {
        "temporal": {EXPOSURE_TIME_S: temporal},
        "spatial": {EXPOSURE_TIME_S: spatial},
        "width": SIDE,
        "height": SIDE,
    }
    return Results1288(Data1288(measured).data)


def one_capture(name):
    return with_settings(load_sensor(name), MAPS).model_copy(update={"hdr": None})


@pytest.mark.parametrize("name", ["camera-imx477", "camera-imx255", "camera-ov-split-pixel"])
def test_the_analysis_gives_back_the_profile(name):
    profile = one_capture(name)
    found = evaluate(profile)
    dark_e = camera_setting(profile, exposure=1.0).captures[0].dark_e
    measured = {
        "gain": found.K,
        "quantum efficiency": found.QE / 100,
        "dark noise": found.sigma_d,
        "saturation capacity": found.u_e_sat,
        "SNR maximum": found.SNR_max,
        "dynamic range": found.DR,
        "DSNU": found.DSNU1288,
        "PRNU": found.PRNU1288 / 100,
    }
    expected = {
        "gain": profile.gain_dn_per_e.value,
        "quantum efficiency": profile.quantum_efficiency.value,
        "dark noise": np.sqrt(profile.read_noise_e.value**2 + dark_e),
        "saturation capacity": photon_transfer(profile).saturation_e,
        "SNR maximum": 10 ** (snr_max_db(profile) / 20),
        "dynamic range": 10 ** (dynamic_range_db(profile) / 20),
        "DSNU": MAPS["dsnu_e"],
        "PRNU": MAPS["prnu"],
    }
    assert measured == pytest.approx(expected, rel=0.03)
