"""The LIDAR beside closed forms: the LIDAR equation, detection, range error, rounding, what is the specimen's own."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy import stats

from robustcheck.errors import InvalidValueError
from robustcheck.sensing import lidar
from robustcheck.sensing.lidar_geometry import points_of
from robustcheck.sensing.lidar_profile import LidarProfile
from robustcheck.sensing.lidar_returns import detection_probability, intensity_sigma
from robustcheck.sensing.profile import load_sensor, sensor_names

BEAMS = tuple(float(angle) for angle in range(15, -17, -2))
THRESHOLD = 4.0
R10 = 40.0


def number(value, unit="1", kind="1sigma"):
    return {"value": value, "unit": unit, "kind": kind, "status": "assumed", "source": "a test"}


def table(values, unit="1"):
    return {"values": values, "unit": unit, "kind": "1sigma", "status": "assumed", "source": "a test"}


def profile(**changed):
    """A LIDAR whose every effect is switched off unless named, but for detection."""
    return LidarProfile.model_validate(
        {
            "name": "lidar-test", "kind": "lidar", "title": "A LIDAR of tests",
            "elevation_deg": table(BEAMS, "deg"), "azimuth_step_deg": number(0.2, "deg"),
            "range_lsb_m": number(0.002, "m"), "range_noise_m": number(1e-9, "m"),
            "range_noise_limit_m": number(1e-9, "m"), "intensity_bits": number(8, "bit"), "intensity_noise": number(0),
            "min_range_m": number(0, "m"), "max_range_m": number(128, "m"),
            "range_at_10_percent_m": number(R10, "m"), "detection_snr": number(THRESHOLD),
            "false_return_rate": number(0), "beam_bias_m": number(0, "m"), "dead_beams": number(0),
            "angular_noise_deg": number(0, "deg"), "operating_points": {"clear": number(1)},
        }
        | changed
    )  # fmt: skip


def setting(signal=1.0, **changed):
    return lidar.lidar_setting(profile(**changed), signal=signal)


def wall(range_m, code=10.0, count=8, columns=500):
    """The same return everywhere: range [m] and intensity [codes of 255]."""
    image = torch.empty(count, 2, len(BEAMS), columns)
    image[:, 0], image[:, 1] = range_m / 128, code / 255
    return image


def sense(images, at, draw=0, seed=0, device_seed=0, first=0):
    return lidar.sense(
        images, at, seed, "test", torch.arange(first, first + len(images)), draw, device_seed=device_seed
    )


def share_of(sensed):
    return float((sensed[:, 0] > 0).double().mean())


def within(share, expected, count, sigmas=4):
    return abs(share - expected) <= sigmas * math.sqrt(max(expected * (1 - expected), 1 / count) / count)


@pytest.mark.parametrize(
    ("signal", "reflectivity", "distance"), [(1, 0.1, 40), (0.3, 0.8, 100), (0.05, 0.02, 3), (1, 0.5, 0.1)]
)
def test_the_snr_is_that_of_the_lidar_equation(signal, reflectivity, distance):
    at = setting(signal)
    snr = lidar.return_snr(torch.tensor(float(distance)), torch.tensor(reflectivity), at)
    assert float(snr) == pytest.approx(THRESHOLD * signal * (reflectivity / 0.1) * (R10 / distance) ** 2, rel=1e-6)


def test_codes_to_100_are_percent_of_a_diffuser():
    codes = torch.tensor([0.0, 1, 10, 80, 100, 255]) / 255
    torch.testing.assert_close(lidar.reflectivity(codes), torch.tensor([0.005, 0.01, 0.1, 0.8, 1.0, 2.55]))


@pytest.mark.parametrize(
    ("signal", "code", "distance"), [(1, 10, 40), (1, 10, 36), (1, 10, 46), (0.2, 50, 39), (0.5, 100, 100), (1, 1, 13)]
)
def test_the_share_detected_is_that_of_a_gaussian(signal, code, distance):
    snr = THRESHOLD * signal * (code / 10) * (R10 / distance) ** 2
    expected = stats.norm.cdf(snr - THRESHOLD)
    image = wall(distance, code)
    assert within(share_of(sense(image, setting(signal))), expected, image[:, 0].numel())
    assert float(detection_probability(torch.tensor(snr), setting())) == pytest.approx(expected, rel=1e-4)


def test_less_signal_loses_more_returns_and_dims_what_remains():
    image = torch.rand(4, 2, len(BEAMS), 200, generator=torch.Generator().manual_seed(0))
    shares = [share_of(sense(image, setting(signal))) for signal in (1, 0.3, 0.1, 0.03, 0.01)]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < shares[0] / 5
    near = wall(1.0, 80)
    codes = sense(near, setting(0.25))[:, 1] * 255
    assert float(codes.mean()) == pytest.approx(20, abs=0.01)


NOISY = {"range_noise_m": number(0.02, "m"), "range_noise_limit_m": number(0.07, "m")}


@pytest.mark.parametrize(("distance", "signal"), [(2, 1), (15, 1), (25, 1), (30, 1), (15, 0.2)])
def test_the_range_scatters_as_the_snr_says(distance, signal):
    snr = THRESHOLD * signal * (R10 / distance) ** 2
    expected = math.sqrt(0.02**2 + (0.07**2 - 0.02**2) * (THRESHOLD / max(snr, THRESHOLD)) ** 2)
    for lsb in (1e-4, 0.03):
        sensed = sense(wall(distance), setting(signal, **NOISY, range_lsb_m=number(lsb, "m")))[:, 0]
        errors = (sensed[sensed > 0].double() * 128 - distance).numpy()
        scatter = math.hypot(expected, lsb / math.sqrt(12))
        assert errors.std() == pytest.approx(scatter, rel=4 / math.sqrt(2 * errors.size))
        assert abs(errors.mean()) < 4 * scatter / math.sqrt(errors.size)
        # Where steps are wide, the errors are no continuous distribution.
        assert lsb > 0.001 or stats.kstest(errors / expected, "norm").pvalue > 1e-3


def test_the_error_at_the_limit_of_detection_is_the_largest():
    at = setting(**NOISY)
    sigma = lidar.range_sigma(torch.tensor([0.01, 1.0, THRESHOLD, 1e9], dtype=torch.float64), at).tolist()
    assert sigma == pytest.approx([0.07, 0.07, 0.07, 0.02])


def test_a_limit_below_the_strong_error_changes_nothing():
    at = setting(range_noise_m=number(0.05, "m"), range_noise_limit_m=number(0.01, "m"))
    sigma = lidar.range_sigma(torch.tensor([1.0, THRESHOLD, 100.0]), at)
    torch.testing.assert_close(sigma, torch.full((3,), 0.05))


def test_the_darkest_surface_reflects_half_a_code():
    distance = R10 * math.sqrt(0.005 / 0.1)
    sensed = sense(wall(distance, code=0.0), setting())
    assert within(share_of(sensed), 0.5, sensed[:, 0].numel())
    assert float(sensed[:, 1].max()) == 0


def test_range_amplitude_and_intensity_have_noise_of_their_own():
    """Near the threshold all three are seen: which returns survive, where they lie, and how bright they look."""
    at = setting(**NOISY, intensity_noise=number(0.1), intensity_bits=number(16, "bit"))
    sensed = sense(wall(38.0), at).double()
    kept = sensed[:, 0] > 0
    ranges, levels = sensed[:, 0][kept].numpy() * 128 - 38, sensed[:, 1][kept].numpy()
    assert abs(stats.pearsonr(ranges, levels).statistic) < 4 / math.sqrt(ranges.size)
    assert abs(ranges.mean()) < 4 * ranges.std() / math.sqrt(ranges.size)
    snr = THRESHOLD * (R10 / 38.0) ** 2
    amplitude = stats.truncnorm(THRESHOLD - snr, np.inf, loc=snr)
    # Of independent factors, the mean of the squares is the product of the means of the squares.
    expected = (amplitude.var() + amplitude.mean() ** 2) * (1 + 0.1**2) / snr**2
    assert (levels**2).mean() / (10 / 255) ** 2 == pytest.approx(expected, rel=0.01)


def test_a_published_table_is_straight_on_logarithmic_axes():
    ouster = {"snr": table([12.0, 100.0, 250.0]), "sigma_m": table([0.10, 0.03, 0.015], "m")}
    at = setting(range_noise_by_snr=ouster, **NOISY)
    snr = np.array([5, 12, 20, 100, 160, 250, 4000.0])
    expected = np.exp(np.interp(np.log(snr), np.log([12, 100, 250]), np.log([0.10, 0.03, 0.015])))
    np.testing.assert_allclose(lidar.range_sigma(torch.tensor(snr), at).numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize(("kind", "sigma"), [("exact", 0.03), ("1sigma", 0.03), ("typical", 0.03), ("max", 0.01)])
def test_a_largest_error_is_three_standard_deviations(kind, sigma):
    published = {"snr": table([12.0, 100.0]), "sigma_m": table([0.06, 0.03], "m") | {"kind": kind}}
    at = setting(
        range_noise_m=number(0.03, "m", kind), range_noise_limit_m=number(0.06, "m", kind),
        range_noise_by_snr=published, beam_bias_m=number(0.03, "m", kind), intensity_noise=number(0.03, kind=kind),
        angular_noise_deg=number(0.03, "deg", kind),
    )  # fmt: skip
    for found in (at.strong_sigma_m, at.beam_bias_m, at.intensity_noise, at.angular_noise_deg, at.limit_sigma_m / 2):
        assert found == pytest.approx(sigma)
    np.testing.assert_allclose(at.sigma_by_snr, [(12, 2 * sigma), (100, sigma)])


def test_ranges_are_whole_steps_and_intensities_whole_codes():
    image = torch.rand(4, 2, len(BEAMS), 100, generator=torch.Generator().manual_seed(1))
    changed = NOISY | {
        "range_lsb_m": number(0.03, "m"),
        "intensity_bits": number(5, "bit"),
        "intensity_noise": number(0.1),
    }
    for sensed in (
        sense(image, setting(**changed)),
        sense(image, lidar.lidar_setting(profile(**changed), signal=1, noisy=False)),
    ):
        for values, steps in ((sensed[:, 0] * 128, 1 / 0.03), (sensed[:, 1], 31)):
            codes = values.double() * steps
            assert float((codes - codes.round()).abs().max()) < 1e-3
    assert len(sensed[:, 1].unique()) == 32


def test_false_returns_are_whole_steps_and_codes_too():
    at = setting(0.3, false_return_rate=number(0.5), range_lsb_m=number(0.5, "m"), intensity_bits=number(5, "bit"))
    sensed = sense(torch.zeros(2, 2, len(BEAMS), 100), at).double()
    for values, steps in ((sensed[:, 0] * 128, 2), (sensed[:, 1], 31)):
        torch.testing.assert_close(values * steps, (values * steps).round(), rtol=0, atol=1e-4)


def test_an_intensity_without_a_range_is_no_return():
    image = wall(0.0, 100, count=1, columns=20)
    for noisy in (True, False):
        assert not sense(image, lidar.lidar_setting(profile(**NOISY), signal=1, noisy=noisy)).any()


def test_without_noise_there_is_rounding_alone():
    image = torch.rand(2, 2, len(BEAMS), 100, generator=torch.Generator().manual_seed(2))
    image[:, :, 3] = 0
    changed = NOISY | {
        "beam_bias_m": number(1, "m"), "dead_beams": number(0.5), "false_return_rate": number(0.5),
        "min_range_m": number(20, "m"), "max_range_m": number(60, "m"), "angular_noise_deg": number(1, "deg"),
    }  # fmt: skip
    sensed = sense(image, lidar.lidar_setting(profile(**changed), signal=0.01, noisy=False))
    for channel, steps in ((0, 64000), (1, 255)):
        codes = sensed[:, channel].double() * steps
        torch.testing.assert_close(codes, codes.round(), rtol=0, atol=0.01)
        torch.testing.assert_close(codes, image[:, channel].double() * steps, rtol=0, atol=0.51)


def test_a_range_that_rounds_beyond_full_scale_is_full_scale():
    coarse = lidar.lidar_setting(profile(range_lsb_m=number(0.03, "m")), signal=1, noisy=False)
    assert float(sense(wall(128.0), coarse)[:, 0].max()) == 1


def test_the_intensity_has_the_noise_of_the_amplitude_and_its_own():
    at = setting(0.5, intensity_noise=number(0.1), intensity_bits=number(16, "bit"))
    distance, code = 10.0, 60.0
    snr = THRESHOLD * 0.5 * (code / 10) * (R10 / distance) ** 2
    levels = sense(wall(distance, code), at)[:, 1].double().numpy().ravel() / (0.5 * code / 255)
    expected = math.sqrt(0.1**2 + 1 / snr**2)
    assert levels.mean() == pytest.approx(1, abs=4 * expected / math.sqrt(levels.size))
    assert levels.std() == pytest.approx(expected, rel=4 / math.sqrt(2 * levels.size))
    assert float(intensity_sigma(torch.tensor(snr), at)) == pytest.approx(expected)


def test_a_return_near_the_limit_looks_as_bright_as_the_threshold_at_least():
    """The amplitude that is detected is that of a Gaussian cut at the threshold, and the intensity follows it."""
    at = setting(intensity_bits=number(16, "bit"))
    sensed = sense(wall(44.0), at)
    levels = sensed[:, 1][sensed[:, 0] > 0].double().numpy() / (10 / 255)
    snr = THRESHOLD * (R10 / 44.0) ** 2
    cut = stats.truncnorm(THRESHOLD - snr, np.inf, loc=snr)
    assert levels.min() >= THRESHOLD / snr - 1e-3
    assert levels.mean() * snr == pytest.approx(cut.mean(), abs=4 * cut.std() / math.sqrt(levels.size))


def test_nothing_is_reported_nearer_or_farther():
    at = setting(min_range_m=number(2, "m"), max_range_m=number(50, "m"))
    image = wall(1.0, 100)
    image[:, 0, :, :] = torch.linspace(0.01, 60, image.shape[3]) / 128
    sensed = sense(image, at)[0, 0] * 128
    reported = sensed > 0
    true = image[0, 0] * 128
    assert bool((reported == ((true > 1.999) & (true < 50.001))).all())
    assert share_of(sense(wall(128.0, 255), setting(max_range_m=number(200, "m")))) == 1


def test_a_return_at_the_minimum_range_is_reported():
    at = setting(min_range_m=number(2, "m"), range_lsb_m=number(0.25, "m"))
    found = [share_of(sense(wall(metres, 100, count=1, columns=8), at)) for metres in (1.75, 2.0, 2.25)]
    assert found == [0, 1, 1]
    # What rounds to no range at all has no intensity either.
    assert not sense(wall(0.1, 100, count=1, columns=8), setting(range_lsb_m=number(0.25, "m"))).any()


def test_what_lies_beyond_full_scale_is_not_reported():
    at = setting(max_range_m=number(200, "m"), range_noise_m=number(0.5, "m"), range_noise_limit_m=number(0.5, "m"),
                 range_at_10_percent_m=number(300, "m"))  # fmt: skip
    sensed = sense(wall(128.0, 255), at)
    assert within(share_of(sensed), 0.5, sensed[:, 0].numel())
    assert float(sensed.max()) == 1


@pytest.mark.parametrize("rate", [0.5, 0.01, 1e-3])
def test_false_returns_come_where_nothing_is_at_their_rate(rate):
    at = setting(0.3, false_return_rate=number(rate), min_range_m=number(2, "m"), max_range_m=number(100, "m"))
    sensed = sense(torch.zeros(20, 2, len(BEAMS), 500), at)
    assert within(share_of(sensed), rate, sensed[:, 0].numel())
    ranges = sensed[:, 0][sensed[:, 0] > 0].double().numpy() * 128
    assert stats.kstest(ranges, "uniform", args=(2, 98)).pvalue > 1e-3
    codes = sensed[:, 1][sensed[:, 0] > 0].numpy() * 255
    np.testing.assert_allclose(codes, np.minimum(10 * (ranges / R10) ** 2, 255), atol=0.51)


def test_a_false_return_does_not_displace_a_true_one():
    at = setting(false_return_rate=number(0.9))
    torch.testing.assert_close(sense(wall(4.0), at)[:, 0], wall(4.0)[:, 0], rtol=0, atol=1e-6)


def test_nothing_stays_nothing():
    assert float(sense(torch.zeros(4, 2, len(BEAMS), 50), setting(**NOISY)).abs().sum()) == 0


def test_the_bias_of_a_beam_is_the_specimens_own():
    at = setting(beam_bias_m=number(0.05, "m"))
    offsets = [
        (sense(wall(5.0, count=2, columns=4), at, draw=draw, seed=seed, device_seed=7)[:, 0] * 128 - 5).mean(dim=(0, 2))
        for draw, seed in ((0, 0), (5, 0), (0, 3))
    ]
    assert torch.equal(offsets[0], offsets[1])
    assert torch.equal(offsets[0], offsets[2])
    many = torch.stack(
        [(sense(wall(5.0, count=1, columns=1), at, device_seed=d)[0, 0, :, 0] * 128 - 5) for d in range(200)]
    ).double()
    assert not torch.equal(many[0], many[1])
    assert float(many.std()) == pytest.approx(0.05, rel=4 / math.sqrt(2 * many.numel()))
    assert float(many.mean()) == pytest.approx(0, abs=4 * 0.05 / math.sqrt(many.numel()))


def test_dead_beams_are_the_specimens_own_and_give_no_false_returns():
    at = setting(dead_beams=number(0.25), false_return_rate=number(0.5))
    image = wall(5.0, count=2, columns=60)
    image[1] = 0
    alive = [(sense(image, at, device_seed=device, draw=draw)[:, 0] > 0).any(dim=2)
             for device in range(120) for draw in (0, 1)]  # fmt: skip
    for first, second in zip(alive[::2], alive[1::2], strict=True):
        assert torch.equal(first, second)
        assert torch.equal(first[0], first[1])
    living = torch.stack(alive[::2])[:, 0].double()
    assert within(float(living.mean()), 0.75, living.numel())
    assert share_of(sense(image, setting(dead_beams=number(1)))) == 0


@pytest.mark.parametrize("noisy", [True, False])
def test_every_fourth_beam_works(noisy):
    at = lidar.lidar_setting(profile(**NOISY, keep_every=number(4)), signal=0.4, noisy=noisy)
    image = wall(30.0)
    whole = sense(image, dataclasses.replace(at, every=1))
    whole[:, :, torch.arange(16) % 4 != 0] = 0
    assert torch.equal(sense(image, at), whole)
    clouds = points_of(image, BEAMS, 0.2)
    found = lidar.sense_points(clouds, at, 0, "test", torch.arange(8), 0).reshape(8, 16, -1, 4)
    assert (found[..., 3].amax(dim=(0, 2)) > 0).tolist() == [row % 4 == 0 for row in range(16)]


def test_a_firing_that_looks_aside_meets_the_neighbour():
    sigma, step = 0.15, 0.2
    at = setting(angular_noise_deg=number(sigma, "deg"))
    image = wall(1.0, 100, columns=101)
    image[:, 0] = (1 + torch.arange(101)) / 128
    met = (sense(image, at)[:, 0] * 128 - 1).round()[..., 10:-10] - torch.arange(10, 91)
    for offset in range(-2, 3):
        low, high = (offset - 0.5) * step / sigma, (offset + 0.5) * step / sigma
        expected = stats.norm.cdf(high) - stats.norm.cdf(low)
        assert within(float((met == offset).double().mean()), expected, met.numel())


def test_a_firing_that_looks_up_or_down_meets_the_next_beam():
    at = setting(angular_noise_deg=number(1.5, "deg"), azimuth_step_deg=number(40, "deg"))
    image = wall(1.0, 100)
    image[:, 0] = (1 + torch.arange(16.0)).unsqueeze(1) / 128
    rows = (sense(image, at)[:, 0] * 128 - 1).round()
    middle = rows[:, 8]
    for row, (low, high) in {7: (1, 3), 8: (-1, 1), 9: (-3, -1)}.items():
        expected = stats.norm.cdf(high / 1.5) - stats.norm.cdf(low / 1.5)
        assert within(float((middle == row).double().mean()), expected, middle.numel())


def test_the_ends_of_a_window_are_clamped_and_a_whole_turn_closes():
    at = setting(angular_noise_deg=number(5, "deg"), azimuth_step_deg=number(30, "deg"))
    for columns, ends in ((12, {0, 1, 11}), (6, {0, 1})):
        image = wall(1.0, 100, columns=columns)
        image[:, 0] = (1 + torch.arange(columns)) / 128
        met = (sense(torch.cat([image] * 40), at)[:, 0] * 128 - 1).round()
        assert set(met[..., 0].unique().int().tolist()) == ends


def test_small_angular_noise_of_the_shipped_parts_is_not_lost():
    """Where no Gaussian that the generator gives reaches the next pixel, nothing moves; where one can, some do."""
    image = wall(1.0, 100, count=64, columns=1000)
    image[:, 0] = (1 + torch.arange(1000) % 50) / 128
    still, moving = (sense(image, setting(angular_noise_deg=number(a, "deg")))[:, 0] for a in (0.0156, 0.025))
    torch.testing.assert_close(still, image[:, 0], rtol=0, atol=1e-6)
    expected = 2 * stats.norm.sf(0.1 / 0.025)
    assert within(float(((moving - image[:, 0]).abs() > 1e-3).double().mean()), expected, image[:, 0].numel())


EVERYTHING = NOISY | {
    "beam_bias_m": number(0.01, "m"), "dead_beams": number(0.1), "false_return_rate": number(0.05),
    "angular_noise_deg": number(0.1, "deg"), "intensity_noise": number(0.1),
    "min_range_m": number(1, "m"), "max_range_m": number(100, "m"),
}  # fmt: skip


def test_a_sample_depends_on_no_batch_order_or_threads():
    image = torch.rand(6, 2, len(BEAMS), 300, generator=torch.Generator().manual_seed(5))
    at, ids = setting(0.5, **EVERYTHING), torch.tensor([4, 9, 2**40, 0, 7, 3])
    whole = lidar.sense(image, at, 3, "test", ids, 11)
    order = torch.tensor([5, 2, 0])
    assert torch.equal(lidar.sense(image[order], at, 3, "test", ids[order], 11), whole[order])
    for row in range(6):
        assert torch.equal(lidar.sense(image[row : row + 1], at, 3, "test", ids[row : row + 1], 11)[0], whole[row])
    draws = torch.tensor([0, 11, 5, 11, 2, 1])
    mixed = lidar.sense(image, at, 3, "test", ids, draws)
    for row, draw in enumerate(draws.tolist()):
        assert torch.equal(lidar.sense(image, at, 3, "test", ids, draw)[row], mixed[row])


def test_equal_seeds_are_equal_and_others_are_not():
    image = torch.rand(2, 2, len(BEAMS), 100, generator=torch.Generator().manual_seed(6))
    at, ids = setting(0.5, **EVERYTHING), torch.arange(2)
    first = lidar.sense(image, at, 1, "test", ids, 0)
    assert torch.equal(first, lidar.sense(image, at, 1, "test", ids, 0))
    for seed, stream, draw, device in ((2, "test", 0, 0), (1, "train", 0, 0), (1, "test", 1, 0), (1, "test", 0, 1)):
        assert not torch.equal(first, lidar.sense(image, at, seed, stream, ids, draw, device_seed=device))
    assert 0 <= float(first.min()) <= float(first.max()) <= 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_stays(dtype):
    image = wall(8.0, count=1, columns=20).to(dtype)
    at = setting(0.5, **EVERYTHING)
    sensed = sense(image, at)
    assert sensed.dtype == dtype
    torch.testing.assert_close(sensed, sense(image.float(), at).to(dtype))


def test_the_gradient_passes_where_a_return_survives():
    image = wall(40.0, columns=100).requires_grad_()
    at = setting(0.9, false_return_rate=number(0.3))
    sensed = sense(image, at)
    weights = torch.rand(sensed.shape, generator=torch.Generator().manual_seed(0))
    (sensed * weights).sum().backward()
    survives = sense(image.detach(), setting(0.9))[:, 0] > 0
    assert 0.2 < float(survives.double().mean()) < 0.6
    torch.testing.assert_close(image.grad[:, 0], weights[:, 0] * survives)
    torch.testing.assert_close(image.grad[:, 1], weights[:, 1] * survives * 0.9)
    assert torch.equal(sensed.detach(), sense(image.detach(), at))


def test_the_gradient_goes_to_the_pixel_that_was_met():
    image = wall(1.0, 100, count=1, columns=50)
    image[:, 0] = (1 + torch.arange(50)) / 128
    image.requires_grad_()
    sensed = sense(image, setting(angular_noise_deg=number(0.15, "deg")))
    sensed[:, 0].sum().backward()
    met = (sensed[:, 0].detach() * 128 - 1).round().long()
    expected = torch.stack([torch.bincount(row, minlength=50) for row in met[0]])
    torch.testing.assert_close(image.grad[0, 0], expected.float())


def test_without_noise_the_gradient_is_the_identity():
    image = wall(5.0, columns=20).requires_grad_()
    sense(image, lidar.lidar_setting(profile(), signal=0.2, noisy=False)).sum().backward()
    assert bool((image.grad == 1).all())


def cloud(count=40_000, distance=30.0, code=20.0, seed=0):
    """Points at random directions of the beams, all equally far."""
    generator = np.random.default_rng(seed)
    elevation = np.radians(generator.choice(BEAMS, count))
    azimuth = generator.uniform(-np.pi, np.pi, count)
    directions = (np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation))
    columns = [distance * d for d in directions] + [np.full(count, code / 255)]
    return torch.tensor(np.stack(columns, axis=-1)[None], dtype=torch.float32)


def sense_cloud(points, at, draw=0, device_seed=0):
    return lidar.sense_points(points, at, 0, "test", torch.arange(len(points)), draw, device_seed=device_seed)


def test_points_are_lost_and_moved_along_their_rays():
    at, points = setting(0.5, **NOISY), cloud()
    snr = THRESHOLD * 0.5 * 2 * (R10 / 30) ** 2
    found = sense_cloud(points, at)
    kept = found[..., :3].norm(dim=-1) > 0
    assert within(float(kept.double().mean()), stats.norm.cdf(snr - THRESHOLD), kept.numel())
    ray, old = found[kept].double(), points[kept].double()
    distance = ray[:, :3].norm(dim=-1)
    assert float(torch.linalg.cross(ray[:, :3], old[:, :3]).norm(dim=-1).max()) / 900 < 1e-6
    expected = math.sqrt(0.02**2 + (0.07**2 - 0.02**2) * (THRESHOLD / snr) ** 2)
    assert float(distance.std()) == pytest.approx(expected, rel=4 / math.sqrt(2 * len(ray)))
    assert bool((found[~kept] == 0).all())
    assert float(ray[:, 3].mean()) * 255 == pytest.approx(10, rel=0.01)


def test_angular_noise_turns_the_rays_of_points():
    points = cloud()
    found = sense_cloud(points, setting(angular_noise_deg=number(0.1, "deg"))).double()
    before, after = points.double()[0], found[0]
    for angle in (lambda p: torch.atan2(p[:, 1], p[:, 0]), lambda p: torch.asin(p[:, 2] / p[:, :3].norm(dim=-1))):
        off = torch.rad2deg(torch.sin(angle(after) - angle(before)))
        assert float(off.std()) == pytest.approx(0.1, rel=4 / math.sqrt(2 * len(off)))


def test_without_noise_points_are_rounded_along_their_rays():
    quantised = lidar.lidar_setting(profile(angular_noise_deg=number(1, "deg")), signal=1, noisy=False)
    points = cloud(2000)
    torch.testing.assert_close(sense_cloud(points, quantised), points, rtol=0, atol=1.1e-3)


def test_the_beam_of_a_point_is_the_nearest_or_the_one_given():
    at, points = setting(beam_bias_m=number(0.5, "m")), cloud(2000, distance=10, code=50)
    index = (15 - torch.rad2deg(torch.asin(points[..., 2] / 10))).div(2).round()
    nearest = sense_cloud(points, at)
    given = sense_cloud(torch.cat((points, index.unsqueeze(-1)), dim=-1), at)
    torch.testing.assert_close(given[..., :4], nearest)
    assert torch.equal(given[..., 4], index)
    swapped = sense_cloud(torch.cat((points, 15 - index.unsqueeze(-1)), dim=-1), at)
    offsets = sense(wall(10.0, 50, count=1, columns=1), at)[0, 0, :, 0] * 128 - 10
    torch.testing.assert_close(
        swapped[..., :3].norm(dim=-1) - 10, offsets[(15 - index).long()], rtol=0, atol=1e-4
    )  # fmt: skip
    for shift, got in ((1, "1 to 16"), (-1, "-1 to 14")):
        with pytest.raises(InvalidValueError, match=f"indices from 0 to 15, the uppermost beam first, got '{got}'"):
            sense_cloud(torch.cat((points, shift + index.unsqueeze(-1)), dim=-1), at)


def test_intensities_of_points_stay_within_their_codes():
    levels = sense_cloud(cloud(5000, distance=10, code=250), setting(intensity_noise=number(0.5)))[0, :, 3]
    assert (float(levels.min()), float(levels.max())) == (0, 1)


def test_a_missing_point_stays_missing_and_a_lost_one_may_turn_false():
    points = cloud(20_000, distance=90, code=1)
    points[:, :5000] = 0
    found = sense_cloud(points, setting(false_return_rate=number(0.2), max_range_m=number(200, "m")))[0]
    assert bool((found[:5000] == 0).all())
    kept = found[5000:, :3].norm(dim=-1)
    assert within(float((kept > 0).double().mean()), 0.2, 15_000)
    assert float(kept.max()) > 128


@pytest.mark.parametrize("signal", [1.0, 0.1, 0.01])
def test_a_reading_is_that_of_a_10_percent_reflector_at_20_m(signal):
    at = setting(signal, intensity_noise=number(0.05), max_range_m=number(100, "m"), **NOISY)
    snr = THRESHOLD * signal * (R10 / 20) ** 2
    sigma = math.sqrt(0.02**2 + (0.07**2 - 0.02**2) * (THRESHOLD / max(snr, THRESHOLD)) ** 2)
    codes = 10 * signal * math.hypot(0.05, 1 / snr)
    found = lidar.reading(at)
    assert found.signal == signal
    assert found.sigma_steps == pytest.approx(sigma / 0.002)
    assert found.sigma == pytest.approx(sigma / 100)
    assert found.range_ep == pytest.approx(2 * stats.norm.sf(0.5 / (sigma / 0.002)))
    assert found.intensity_ep == pytest.approx(2 * stats.norm.sf(0.5 / codes))
    assert found.detection == pytest.approx(stats.norm.cdf(snr - THRESHOLD))
    assert found.ep is None


def test_a_reading_without_noise():
    found = lidar.reading(lidar.lidar_setting(profile(), signal=1, noisy=False))
    assert (found.sigma, found.sigma_steps, found.range_ep) == (0, 0, None)


def test_errors_name_what_was_expected():
    with pytest.raises(InvalidValueError, match="expected 16, one a beam of the LIDAR, got 64; choose a LIDAR"):
        sense(torch.zeros(1, 2, 64, 8), setting())
    with pytest.raises(InvalidValueError, match="range images: expected floating"):
        sense(torch.zeros(1, 3, 16, 8), setting())
    with pytest.raises(InvalidValueError, match=r"points: expected floating \(n, points, 4 or 5\)"):
        sense_cloud(torch.zeros(5, 4), setting())
    for signal in (0, 1.1, -1, math.nan):
        with pytest.raises(InvalidValueError, match="0 < signal <= 1"):
            lidar.lidar_setting(profile(), signal=signal)


def test_no_beam_at_all_is_refused():
    with pytest.raises(ValueError, match="a whole number from 1 to 64"):
        profile(keep_every=number(0))


def test_a_very_weak_signal_gives_no_nan():
    sensed = sense(wall(40.0), setting(1e-30, **NOISY, false_return_rate=number(0.01)))
    assert bool(sensed.isfinite().all())


@pytest.mark.parametrize("name", [name for name in sensor_names() if name.startswith("lidar-")])
def test_shipped_parts_sense(name):
    part = load_sensor(name)
    image = torch.full((2, 2, len(part.elevation_deg.values), 64), 10 / 128)
    image[:, 1] = 30 / 255
    for signal in (1.0, 0.1):
        at = lidar.lidar_setting(part, signal=signal)
        sensed = sense(image, at)
        assert bool(sensed.isfinite().all())
        assert lidar.reading(at).range_ep > 0
    assert share_of(sense(image, lidar.lidar_setting(part, signal=1))) > 0.9


def test_sunlight_divides_the_signal_to_noise_ratio():
    ranges, tenth = torch.tensor([5.0, 20.0, 60.0]), torch.tensor(0.1)
    plain, sunny = (lidar.return_snr(ranges, tenth, setting(ambient_noise=number(noise))) for noise in (1, 4))
    torch.testing.assert_close(sunny, plain / 4)
    image = wall(R10 / 2)  # four times the threshold's SNR, and just at the threshold in the sun
    assert share_of(sense(image, setting())) == 1
    assert within(share_of(sense(image, setting(ambient_noise=number(4)))), 0.5, 8 * 16 * 500)
