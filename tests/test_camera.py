"""The camera against exact distributions from SciPy, the linear model of EMVA 1288, and its own promises."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from robustcheck.errors import InvalidValueError
from robustcheck.sensing.camera import _Camera, camera_setting, codes, saturation_e, sense
from robustcheck.sensing.camera_profile import CameraProfile
from robustcheck.sensing.kernels import cpu
from robustcheck.sensing.srgb import to_linear


def quantity(value, unit):
    return {"value": value, "unit": unit, "kind": "typical", "status": "assumed", "source": "a test"}


NUMBERS = {
    "bits": (12, "bit"),
    "full_well_e": (8180, "electron"),
    "read_noise_e": (3, "electron"),
    "gain_dn_per_e": (0.47, "DN/electron"),
    "black_level_dn": (256, "DN"),
    "pixel_um": (1.55, "um"),
    "quantum_efficiency": (0.6, "1"),
    "dark_current_e_per_s": (40, "electron/s"),
    "dark_reference_c": (20, "degC"),
    "dark_doubling_c": (8, "degC"),
    "prnu": (0, "1"),
    "dsnu_e": (0, "electron"),
    "row_noise_e": (0, "electron"),
    "exposure_time_s": (0.02, "s"),
    "temperature_c": (36, "degC"),
    "f_number": (2, "1"),
    "transmission": (0.9, "1"),
    "reflectance": (1, "1"),
}


def profile(colour_filter="none", hdr=None, **values):
    numbers = {name: quantity(values.get(name, value), unit) for name, (value, unit) in NUMBERS.items()}
    fixed = {"name": "camera-test", "kind": "camera", "title": "Test", "operating_points": {"day": quantity(0.5, "1")}}
    return CameraProfile.model_validate(fixed | numbers | {"colour_filter": colour_filter, "hdr": hdr})


def setting(exposure=0.5, bits=None, noisy=True, **values):
    return camera_setting(profile(**values), exposure=exposure, bits=bits, noisy=noisy)


def capture(name, sensitivity, well, read, gain, dark):
    return {
        "name": name,
        "sensitivity": quantity(sensitivity, "1"),
        "full_well_e": quantity(well, "electron"),
        "read_noise_e": quantity(read, "electron"),
        "gain_dn_per_e": quantity(gain, "DN/electron"),
        "dark_current_e_per_s": quantity(dark, "electron/s"),
    }


def hdr(method="multi-exposure", sensitivity=1 / 16):
    captures = [capture("short", sensitivity, 8180, 3, 0.47, 40)]
    return {"method": method, "captures": captures, "hand_over": quantity(0.9, "1")}


def flat(light, count=90_000):
    """A flat field of one row of pixels per sample, whose sRGB value stands for this linear light."""
    x = 12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055
    return torch.full((1, 1, 300, count // 300), x, dtype=torch.float32)


def photos(*shape, seed=0):
    return torch.tensor(np.random.default_rng(seed).random(shape), dtype=torch.float32)


def ids(n, first=2**35):
    return torch.arange(n) + first


def exact_codes(light, camera):
    """Probability of each code: the clipped sum of a Poisson number, cut at the well, and Gaussian noise."""
    one = camera.captures[0]
    mean = light * camera.white_e + one.dark_e
    held = np.arange(int(one.full_well_e) + 1)
    weight = stats.poisson.pmf(held, mean)
    weight[-1] += stats.poisson.sf(held[-1], mean)
    used = weight > 1e-12
    edges = np.concatenate([[-np.inf], np.arange(camera.max_code) + 0.5, [np.inf]])
    centre = one.gain_dn_per_e * held[used] + camera.black_dn
    spread = one.gain_dn_per_e * one.read_noise_e
    return weight[used] @ np.diff(stats.norm.cdf((edges - centre[:, None]) / spread), axis=1)


def pooled(observed, expected):
    """Bins joined from the left until each is expected at least 20 times."""
    bins, seen, due = [], 0.0, 0.0
    for o, e in zip(observed, expected, strict=True):
        seen, due = seen + o, due + e
        if due >= 20:
            bins.append([seen, due])
            seen = due = 0.0
    bins[-1][0] += seen
    bins[-1][1] += due
    return np.array(bins).T


@pytest.mark.parametrize("bits", [4, 8, 12])
@pytest.mark.parametrize(
    ("light", "exposure", "gain"),
    [(0.8, 0.5, 0.47), (0.3, 0.005, 0.47), (0.0, 0.5, 0.47), (0.01, 0.01, 5.0), (0.99, 1.0, 0.47), (1.0, 1.0, 0.4)],
    ids=["bright", "dim", "dark", "a few electrons, finely read", "at the converter's end", "at the well"],
)
def test_codes_have_the_exact_distribution(bits, light, exposure, gain):
    camera = setting(exposure, bits, gain_dn_per_e=gain)
    found = codes(flat(light), camera, 5, "test", ids(1), 0).long().flatten().numpy()
    observed = np.bincount(found, minlength=camera.max_code + 1)
    expected = exact_codes(light, camera) * found.size
    assert observed[expected < 1e-9].sum() == 0
    o, e = pooled(observed, expected)
    if len(o) == 1:
        assert o[0] == found.size
    else:
        assert stats.chisquare(o, e * o.sum() / e.sum()).pvalue > 1e-3


def test_mean_and_variance_follow_the_linear_model():
    # EMVA 1288: μ_y = black + K (μ_e + μ_dark), σ_y² = K² (σ_d0² + μ_e + μ_dark) + 1/12
    camera = setting(read_noise_e=4.0, row_noise_e=0.0)
    K, dark = 0.47, camera.captures[0].dark_e
    for light in (0.0, 0.01, 0.2, 0.9):
        y = codes(flat(light), camera, 1, "test", ids(1), 0).double()
        mean = 256 + K * (light * 4090 + dark)
        variance = K**2 * (16 + light * 4090 + dark) + 1 / 12
        assert y.mean().item() == pytest.approx(mean, abs=4 * (variance / y.numel()) ** 0.5)
        assert y.var().item() == pytest.approx(variance, rel=4 * (2 / y.numel()) ** 0.5)


def test_what_is_delivered_is_the_light_again():
    camera = setting(prnu=0.01, dsnu_e=1.0, row_noise_e=0.5)
    for x in (0.05, 0.3, 0.7):
        out = sense(torch.full((4, 3, 60, 60), x), camera, 0, "test", ids(4), 0)
        assert to_linear(out.double()).mean().item() == pytest.approx(((x + 0.055) / 1.055) ** 2.4, rel=0.01)


def test_numbers_of_a_setting():
    camera = setting(0.25, bits=10)
    one = camera.captures[0]
    assert saturation_e(profile()) == 8180
    assert (camera.white_e, camera.exposure, camera.max_code) == (2045, 0.25, 1023)
    assert (one.gain_dn_per_e, camera.black_dn) == (pytest.approx(0.47 / 4), 64)
    # 16 °C warmer with a doubling each 8 °C: four times 40 e/s for 0.02 s
    assert one.dark_e == pytest.approx(3.2)
    assert setting(bits=11.5).max_code == round(2**11.5) - 1
    assert setting(bits=6).black_dn == 4
    assert setting(bits=2).black_dn == 0


def test_the_time_of_a_further_capture():
    short = setting(hdr=hdr()).captures[1]
    beside = setting(hdr=hdr("split-pixel")).captures[1]
    assert (short.sensitivity, short.dark_e) == (1 / 16, pytest.approx(0.2))
    assert beside.dark_e == pytest.approx(3.2)
    # The well of the shorter exposure, times 16.
    assert saturation_e(profile(hdr=hdr())) == pytest.approx(8180 * 16)
    assert setting(1.0, hdr=hdr()).white_e == pytest.approx(8180 * 16)


@pytest.mark.parametrize(
    "bad", [{"exposure": 0.0}, {"exposure": 1.01}, {"exposure": 0.5, "bits": 0.5}, {"exposure": 1, "bits": 17}]
)
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(InvalidValueError, match="expected"):
        camera_setting(profile(), **bad)


def test_without_noise_it_rounds_and_clips():
    camera = setting(1.0, bits=6, noisy=False, prnu=0.05, dsnu_e=9.0, row_noise_e=9.0)
    x = photos(2, 3, 16, 16)
    light = np.where(x <= 0.04045, x.double() / 12.92, ((x.double() + 0.055) / 1.055) ** 2.4)
    K, dark = 0.47 / 64, 3.2
    exact = np.minimum(light * 8180 + dark, 8180) * K + 4
    code = np.clip(np.rint(exact), 0, 63)
    edge = np.abs(exact - np.floor(exact) - 0.5) < 1e-4
    found = codes(x, camera, 0, "test", ids(2), 0).numpy()
    assert (found == code)[~edge].all()
    linear = np.clip((found - 4 - K * dark) / (K * 8180), 0, 1)
    shown = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)
    out = sense(x, camera, 0, "test", ids(2), 0)
    assert np.allclose(out.numpy(), shown, rtol=0, atol=1e-6)
    assert torch.equal(out, sense(x, camera, 9, "train", ids(2, 0), 7, device_seed=3))


def averaged(camera, device_seed, stream="test", draws=64):
    x = torch.full((draws, 1, 40, 40), 0.8)
    return (
        codes(x, camera, 0, stream, ids(1).expand(draws), torch.arange(draws), device_seed=device_seed).double().mean(0)
    )


def correlation(a, b):
    return np.corrcoef(a.flatten(), b.flatten())[0, 1]


@pytest.mark.parametrize(("values", "exposure"), [({"prnu": 0.02}, 0.9), ({"dsnu_e": 20.0}, 0.001)])
def test_maps_belong_to_the_device(values, exposure):
    camera = setting(exposure, **values)
    one, again, other = averaged(camera, 3), averaged(camera, 3, "train"), averaged(camera, 4)
    assert correlation(one, again) > 0.9
    assert abs(correlation(one, other)) < 4 / 40
    light = ((0.8 + 0.055) / 1.055) ** 2.4
    expected = 0.47 * (0.02 * light * camera.white_e if "prnu" in values else 20)
    temporal = 0.47**2 * (light * camera.white_e + 12.2) / 64
    spread = (one.var().item() - temporal) ** 0.5
    assert spread == pytest.approx(expected, rel=4 / math.sqrt(2 * 1600))


def test_maps_differ_between_colours_and_between_kinds():
    x = torch.zeros(1, 3, 40, 40)
    dark = setting(dsnu_e=2000.0, read_noise_e=0.0, black_level_dn=2000)
    found = codes(x, dark, 0, "test", ids(1), 0)[0]
    assert abs(correlation(found[0], found[1])) < 0.1
    bright = codes(x + 1, setting(0.5, prnu=0.3), 0, "test", ids(1), 0)[0]
    assert abs(correlation(found[0], bright[0])) < 0.1


def test_temporal_noise_differs_by_draw_sample_seed_and_stream():
    camera = setting()
    x = torch.full((1, 1, 40, 40), 0.5)
    base = codes(x, camera, 0, "test", ids(1), 0)
    others = [
        codes(x, camera, 0, "test", ids(1), 1),
        codes(x, camera, 0, "test", ids(1) + 1, 0),
        codes(x, camera, 1, "test", ids(1), 0),
        codes(x, camera, 0, "train", ids(1), 0),
    ]
    assert torch.equal(base, codes(x, camera, 0, "test", ids(1), 0))
    for other in others:
        assert abs(correlation(base, other)) < 4 / 40


def test_shot_and_read_noise_are_independent():
    # If one word made both, the variance would hold a term of 2 √(light) · read noise.
    camera = setting(0.1, read_noise_e=20.0)
    y = codes(flat(0.5), camera, 0, "test", ids(1), 0).double()
    variance = 0.47**2 * (400 + 409 + 3.2) + 1 / 12
    assert y.var().item() == pytest.approx(variance, rel=4 * (2 / y.numel()) ** 0.5)


def test_row_noise_is_one_value_a_row_for_all_colours():
    camera = setting(0.001, row_noise_e=30.0, read_noise_e=0.0, dark_current_e_per_s=0)
    found = codes(torch.zeros(5, 3, 200, 7), camera, 0, "test", ids(5), 0)
    assert (found == found[:, :1, :, :1]).all()
    rows = found[:, 0, :, 0].double()
    assert rows.std().item() == pytest.approx(0.47 * 30, rel=4 / math.sqrt(2 * 1000))
    assert abs(correlation(rows[0], rows[1])) < 4 / math.sqrt(200)
    assert not torch.equal(found, codes(torch.zeros(5, 3, 200, 7), camera, 0, "test", ids(5), 1))


FULL = {"prnu": 0.01, "dsnu_e": 1.0, "row_noise_e": 0.5}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("options", [{}, {"colour_filter": "rggb"}, {"hdr": hdr()}], ids=["plain", "filter", "hdr"])
def test_batch_order_and_threads_do_not_matter(channels, options):
    camera = setting(0.1, **FULL, **options)
    x = photos(7, channels, 45, 40)
    numbers, draws = ids(7), torch.arange(7) * 3
    whole = sense(x, camera, 2, "test", numbers, draws, device_seed=1)
    order = torch.tensor([4, 0, 6, 2, 1, 5, 3])
    assert torch.equal(sense(x[order], camera, 2, "test", numbers[order], draws[order], device_seed=1), whole[order])
    for i in (0, 5):
        alone = sense(x[i : i + 1], camera, 2, "test", numbers[i : i + 1], int(draws[i]), device_seed=1)
        assert torch.equal(alone[0], whole[i])
    before = cpu.set_threads(1)
    try:
        assert torch.equal(sense(x, camera, 2, "test", numbers, draws, device_seed=1), whole)
    finally:
        cpu.set_threads(before)
    strided = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert torch.equal(sense(strided, camera, 2, "test", numbers, draws, device_seed=1), whole)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("options", [{}, {"colour_filter": "bggr"}, {"hdr": hdr()}], ids=["plain", "filter", "hdr"])
def test_dtypes_shapes_and_ranges(dtype, options):
    x = photos(2, 3, 9, 10).to(dtype)
    out = sense(x, setting(0.3, **FULL, **options), 0, "test", ids(2), 0)
    assert (out.dtype, out.shape) == (dtype, x.shape)
    assert out.is_contiguous()
    assert 0 <= out.min() <= out.max() <= 1
    single = sense(x.float(), setting(0.3, **FULL, **options), 0, "test", ids(2), 0)
    assert torch.equal(out, single.to(dtype))
    assert codes(x, setting(), 0, "test", ids(2), 0).dtype == torch.float32


def test_the_gradient_passes_where_nothing_clipped():
    # The well ends at 0.6 of the light, the converter above it.
    camera = replace(setting(1.0, gain_dn_per_e=0.3), white_e=8180 / 0.6)
    x = photos(3, 3, 20, 20) * 1.2 - 0.1
    x.requires_grad_()
    out = sense(x, camera, 0, "test", ids(3), 0)
    weight = photos(3, 3, 20, 20, seed=1)
    (out * weight).sum().backward()
    passed = x.grad != 0
    assert torch.equal(x.grad, torch.where(passed, weight, 0.0))
    light = ((x.detach().double() + 0.055) / 1.055) ** 2.4
    clear = (x.detach() > 0.1) & (light < 0.57)
    clipped = (x.detach() < 0) | (light > 0.63)
    assert passed[clear].all()
    assert not passed[clipped].any()
    assert not passed[(out == 0) | (out == 1)].any()
    # Half of the dark pixels fall below black.
    dark = torch.zeros(1, 1, 40, 40, requires_grad=True)
    sensed = sense(dark, setting(1.0), 0, "test", ids(1), 0)
    sensed.sum().backward()
    assert torch.equal(dark.grad != 0, sensed > 0)
    assert 0.3 < (dark.grad != 0).float().mean() < 0.7


def test_the_gradient_stops_where_the_converter_ends():
    # 6 bits of 0.6 DN/e · 2^−6 end at 6,300 electrons, far below the well and white.
    camera = setting(1.0, bits=6, gain_dn_per_e=0.6)
    x = torch.tensor([0.5, 0.7, 0.99, 1.0]).reshape(1, 1, 1, 4).requires_grad_()
    sense(x, camera, 0, "test", ids(1), 0).sum().backward()
    assert x.grad.flatten().tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize("options", [{"colour_filter": "grbg"}, {"hdr": hdr()}], ids=["filter", "hdr"])
def test_the_gradient_through_a_filter_or_several_captures(options):
    x = photos(2, 3, 16, 16).requires_grad_()
    out = sense(x, setting(0.2, **options), 0, "test", ids(2), 0)
    assert torch.equal(out.detach(), sense(x.detach(), setting(0.2, **options), 0, "test", ids(2), 0))
    (out * 3).sum().backward()
    assert set(x.grad.unique().tolist()) <= {0.0, 3.0}
    assert torch.equal(x.grad[(out > 0) & (out < 0.999)].unique(), torch.tensor([3.0]))


@pytest.mark.parametrize("options", [{"colour_filter": "grbg"}, {"hdr": hdr()}], ids=["filter", "hdr"])
def test_that_gradient_stops_where_the_result_is_clipped(options):
    # Noise takes half of the black pixels below 0 and half of the white ones above 1.
    for level in (0.0, 1.0):
        x = torch.full((1, 3, 20, 20), level, requires_grad=True)
        out = sense(x, setting(0.9, **options), 0, "test", ids(1), 0)
        out.sum().backward()
        assert torch.equal(x.grad, ((out > 0) & (out < 1)).float())
        assert 0 < x.grad.mean() < 1


def test_a_colour_filter_needs_three_colours_and_keeps_flat_ones():
    camera = setting(1.0, noisy=False, colour_filter="rggb")
    colours = torch.tensor([0.2, 0.5, 0.8]).reshape(1, 3, 1, 1).expand(1, 3, 6, 6).contiguous()
    plain = sense(colours, setting(1.0, noisy=False), 0, "test", ids(1), 0)
    assert torch.allclose(sense(colours, camera, 0, "test", ids(1), 0), plain, rtol=0, atol=1e-6)
    grey = photos(1, 1, 6, 6)
    assert torch.equal(
        sense(grey, camera, 0, "test", ids(1), 0), sense(grey, setting(1.0, noisy=False), 0, "test", ids(1), 0)
    )


def test_several_captures_span_more_light():
    camera = setting(1.0, hdr=hdr(), noisy=False)
    x = photos(1, 3, 30, 30)
    out = sense(x, camera, 0, "test", ids(1), 0)
    # The coarsest step is one code of the short capture: 1 / 3,839 of white.
    assert (out - x).abs().max() < 12.92 / 3839
    noisy = setting(1.0, hdr=hdr())
    white = torch.full((1, 1, 100, 100), 0.8)
    light = ((sense(white, noisy, 0, "test", ids(1), 0).double() + 0.055) / 1.055) ** 2.4
    # Only the short capture sees this: 1/16 of the electrons, and its own read noise.
    electrons = ((0.8 + 0.055) / 1.055) ** 2.4 * noisy.white_e / 16
    assert (light.mean() / light.std()).item() == pytest.approx(
        electrons / (electrons + 9 + 0.2 + 1 / 12 / 0.47**2) ** 0.5, rel=4 / math.sqrt(2e4)
    )


def test_captures_share_no_temporal_noise():
    # With equal captures the second would repeat the first if their streams were one.
    twice = replace(setting(0.2), captures=setting(0.2).captures * 2)
    eye = _Camera(twice, 0, "test", ids(1), 0, 0)
    x = torch.full((1, 1, 60, 60), 0.5)
    first, second = (eye.capture(x, index, output="codes")[0] for index in (0, 1))
    assert abs(correlation(first, second)) < 4 / 60


@pytest.mark.parametrize(
    ("x", "numbers", "what"),
    [
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), ids(2), "divide whole numbers by 255"),
        (torch.zeros(3, 4, 4), ids(3), r"expected \(n, c, h, w\)"),
        (torch.zeros(2, 3, 4, 4), ids(3), "one an image"),
    ],
)
def test_images_that_do_not_fit_are_refused(x, numbers, what):
    with pytest.raises(InvalidValueError, match=what):
        sense(x, setting(), 0, "test", numbers, 0)


def test_a_draw_out_of_range_and_codes_of_several_captures_are_refused():
    x = torch.zeros(1, 1, 2, 2)
    with pytest.raises(InvalidValueError, match="draw"):
        sense(x, setting(), 0, "test", ids(1), 2**32)
    with pytest.raises(InvalidValueError, match="use sense"):
        codes(x, setting(hdr=hdr()), 0, "test", ids(1), 0)


def test_an_empty_batch_stays_empty():
    nothing = torch.zeros(0, 3, 4, 4)
    assert sense(nothing, setting(**FULL), 0, "test", ids(0), 0).shape == (0, 3, 4, 4)
