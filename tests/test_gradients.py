"""Gradient errors on the grid: against NumPy and SciPy from the definitions, exact expectations, published values."""

import itertools
import math

import numpy as np
import pytest
from scipy import special, stats

from robustcheck.activations.catalogue import activation
from robustcheck.analysis import gradients
from robustcheck.analysis.gradient_scaling import (
    estimate,
    expected_ratio,
    interpolation_sweep,
    ratio,
    scaling,
)
from robustcheck.analysis.gradients import (
    Errors,
    GridNoise,
    curvature,
    derivative_jump,
    error_map,
    gradient_bits,
    gradient_errors,
)
from robustcheck.errors import InvalidValueError

RELU, GELU, SILU = map(activation, ("relu", "gelu", "silu"))
HALF = activation("interpolate(relu, gelu, i=0.5, s=2)")


def relu_slope(x):
    return (x > 0).astype(float)


def gelu_slope(x, s=1.0):
    return stats.norm.cdf(s * x) + s * x * stats.norm.pdf(s * x)


def silu_slope(x):
    y = special.expit(x)
    return y + x * y * (1 - y)


SLOPES = {RELU: relu_slope, GELU: gelu_slope, SILU: silu_slope, HALF: lambda x: (relu_slope(x) + gelu_slope(x, 2)) / 2}


def sigma_of(ep, p):
    return 1 / (2 * math.sqrt(2) * p * special.erfinv(1 - ep))


def reduced(x, p):
    clamped = np.clip(x, -1, 1)
    return np.sign(clamped) * np.ceil(np.abs(clamped) * p - 0.5) / p


def errors_by_numpy(p, ep, x_noise, w_noise, product_noise):
    """The definition, for each slope: (2p + 1, 2p + 1)."""
    grid, sigma = np.linspace(-1, 1, 2 * p + 1), sigma_of(ep, p)
    grid[p] = 0
    x, w = reduced(grid + sigma * x_noise, p), reduced(grid + sigma * w_noise, p)
    noisy = reduced(np.outer(x, w) + sigma * product_noise, p)
    clean = np.outer(grid, grid)
    return {name: np.abs(slope(noisy) - slope(clean)) for name, slope in SLOPES.items()}


def near(errors, p):
    inner = slice(p - p // 4, p + p // 4 + 1)
    return errors[inner, inner]


def numpy_repetition(p, ep, seed, repetition):
    noise = GridNoise(p, seed, repetition)
    everything = slice(0, 2 * p + 1)
    deviates = noise.factor("x"), noise.factor("w"), noise.product(everything, everything)
    return errors_by_numpy(p, ep, *(each.numpy() for each in deviates))


@pytest.mark.parametrize(("p", "ep"), [(37, 0.3), (100, 0.7)])
def test_the_same_noise_gives_the_errors_of_the_definition(p, ep):
    found = gradient_errors(list(SLOPES), steps=p, ep=ep, repetitions=3, seed=5)
    for repetition in range(3):
        expected = numpy_repetition(p, ep, 5, repetition)
        for each, errors in zip(found, expected.values(), strict=True):
            for own, whole in ((each.full, errors), (each.near_zero, near(errors, p))):
                assert own.maximum[repetition] == pytest.approx(whole.max(), rel=1e-9)
                assert own.mean[repetition] == pytest.approx(whole.mean(), rel=1e-9)


@pytest.mark.parametrize(("p", "ep"), [(48, 0.35), (90, 0.65)])
def test_noise_of_its_own_gives_the_same_distribution(p, ep):
    repetitions = 80
    rng = np.random.default_rng(1)
    expected = {name: [] for name in SLOPES}
    for _ in range(repetitions):
        side = 2 * p + 1
        noise = rng.normal(size=side), rng.normal(size=side), rng.normal(size=(side, side))
        for name, errors in errors_by_numpy(p, ep, *noise).items():
            inner = near(errors, p)
            expected[name].append((errors.max(), errors.mean(), inner.max(), inner.mean()))
    for each, other in zip(
        gradient_errors(list(SLOPES), steps=p, ep=ep, repetitions=repetitions), expected.values(), strict=True
    ):
        own = (each.full.maximum, each.full.mean, each.near_zero.maximum, each.near_zero.mean)
        for mine, theirs in zip(own, np.transpose(other), strict=True):
            if np.ptp(mine) == 0 and np.ptp(theirs) == 0:
                assert mine[0] == pytest.approx(theirs[0])
            else:
                assert stats.ttest_ind(mine, theirs, equal_var=False).pvalue > 1e-4
                assert stats.ks_2samp(mine, theirs).pvalue > 1e-4


def code_probabilities(centre, p, sigma):
    """P(reduce(clamp(centre + n)) = k/p) for k = −p … p: along a last axis. Rounding is symmetrical, ties have none."""
    edges = (np.arange(-p, p) + 0.5) / p
    below = stats.norm.cdf((edges - np.asarray(centre)[..., None]) / sigma)
    return np.diff(np.concatenate([np.zeros_like(below[..., :1]), below, np.ones_like(below[..., :1])], axis=-1))


@pytest.mark.parametrize("each", [RELU, GELU])
def test_the_mean_error_is_what_probability_theory_says(each):
    p, ep, repetitions = 7, 0.6, 400
    sigma, grid = sigma_of(ep, p), np.arange(-7, 8) / 7
    chance = code_probabilities(grid, p, sigma)
    of_product = code_probabilities(np.outer(grid, grid), p, sigma)
    # E over x̃ = a, w̃ = b and P̃ = c of the error at x = i, w = j.
    error = np.abs(SLOPES[each](grid) - SLOPES[each](np.outer(grid, grid))[..., None])
    expected = np.einsum("ia,jb,abc,ijc->", chance, chance, of_product, error, optimize=True) / 15**2
    (found,) = gradient_errors([each], steps=p, ep=ep, repetitions=repetitions)
    own = np.array(found.full.mean)
    assert abs(own.mean() - expected) < 4 * own.std() / repetitions**0.5
    assert own.std() / repetitions**0.5 < 0.02 * expected


def test_the_published_point():
    relu, gelu = gradient_errors([RELU, GELU], steps=256, ep=0.5, repetitions=40, full=False)
    compared = ratio(relu.near_zero, gelu.near_zero)
    assert set(relu.near_zero.maximum) == {1.0}
    assert 0.0098 <= np.mean(gelu.near_zero.maximum) <= 0.0108
    assert compared.maximum.value == pytest.approx(97.8, abs=4.3)
    assert compared.mean.value == pytest.approx(40.5, abs=1.2)


def test_the_error_falls_along_the_interpolation():
    sweep = interpolation_sweep(i=(0, 0.25, 0.5, 0.75, 1), s=(1,), repetitions=20)
    assert [each.i for each in sweep] == [0, 0.25, 0.5, 0.75, 1]
    found = [np.mean(each.errors.near_zero.maximum) for each in sweep]
    assert found == pytest.approx([0.999, 0.752, 0.504, 0.256, 0.011], abs=0.0015)
    # The derivative is linear in i, and the errors of ReLU and GELU at one product rarely have different signs.
    means = [np.mean(each.errors.near_zero.mean) for each in sweep]
    assert means[2] == pytest.approx((means[0] + means[4]) / 2, rel=1e-3)


def test_a_steeper_function_errs_more():
    one, three = interpolation_sweep(i=(1,), s=(1, 3), repetitions=5)
    assert (one.s, three.s) == (1, 3)
    largest = [np.mean(each.errors.near_zero.maximum) for each in (one, three)]
    assert largest[1] / largest[0] == pytest.approx(3, rel=0.02)


def test_the_ratio_grows_less_than_the_steps():
    points = scaling(RELU, GELU, steps=(16, 256, 1024), eps=(0.5,), repetitions=24)
    assert [each.steps for each in points] == [16, 256, 1024]
    for each, published in zip(points, (0.435, 0.282, 0.247), strict=True):
        margin = each.scaled.upper - each.scaled.value
        assert abs(each.scaled.value - published) < margin + 0.005
        assert each.scaled.value == pytest.approx(each.ratio.maximum.value * 0.74130 / each.steps, rel=1e-4)
        assert each.ratio.maximum.value == pytest.approx(each.expected, rel=0.1)
    assert points[0].slope is None
    for before, each in itertools.pairwise(points):
        assert 0.7 < each.slope.lower < each.slope.value < each.slope.upper < 1
        whole = math.log(each.ratio.maximum.value / before.ratio.maximum.value) / math.log(each.steps / before.steps)
        assert each.slope.value == pytest.approx(whole, abs=0.02)


def test_the_ratio_falls_with_the_error_probability():
    low, high = scaling(RELU, GELU, steps=(64,), eps=(0.2, 0.8), repetitions=5)
    assert (low.ep, high.ep) == (0.2, 0.8)
    assert low.ratio.maximum.lower > 2 * high.ratio.maximum.upper


def test_what_theory_expects():
    # J/(|f″(0)| σ √(2 ln N)) with f″(0) = √(2/π) and N = 129².
    by_hand = 1 / (math.sqrt(2 / math.pi) * 0.74130 / 256 * math.sqrt(2 * math.log(129**2)))
    assert expected_ratio(RELU, GELU, 256, 0.5) == pytest.approx(by_hand, rel=1e-4)
    assert expected_ratio(activation("leaky_relu(0.5)"), SILU, 256, 0.5) == pytest.approx(
        by_hand * 0.5 * math.sqrt(2 / math.pi) / 0.5, rel=1e-4
    )
    assert expected_ratio(GELU, RELU, 256, 0.5) is None
    assert expected_ratio(RELU, RELU, 256, 0.5) is None
    assert expected_ratio(RELU, activation("tanh"), 256, 0.5) is None
    assert expected_ratio(RELU, GELU, 3, 0.5) is None


@pytest.mark.parametrize(
    ("spec", "jump"),
    [("relu", 1), ("leaky_relu(0.2)", 0.8), ("gelu", 0), ("silu", 0), ("hardtanh", 0), ("elu", 0), ("celu(2)", 0)]
    + [(f"interpolate(relu, gelu, i={i}, s=3)", 1 - i) for i in (0, 0.1, 0.5, 1)]
    + [("interpolate(relu, silu, i=0.25)", 0.75)],
)
def test_jumps(spec, jump):
    assert derivative_jump(activation(spec)) == pytest.approx(jump, abs=1e-9)
    if jump == 0:
        assert derivative_jump(activation(spec)) == 0


@pytest.mark.parametrize(
    ("spec", "bits"),
    [
        ("gelu", 6.326),
        ("interpolate(relu, gelu, i=1, s=2)", 5.326),
        ("silu", -math.log2(silu_slope(1 / 64) - 0.5)),
        ("relu", 0),
        ("leaky_relu(0.5)", 1),
        ("hardtanh", math.inf),
        ("tanh", -math.log2(math.tanh(1 / 64) ** 2)),
    ],
)
def test_gradient_bits(spec, bits):
    assert gradient_bits(activation(spec)) == pytest.approx(bits, abs=5e-4)


@pytest.mark.parametrize(
    ("spec", "slope"),
    [
        ("gelu", math.sqrt(2 / math.pi)),
        ("interpolate(relu, gelu, i=1, s=3)", 3 * math.sqrt(2 / math.pi)),
        ("silu", 0.5),
        ("hardsigmoid", 0),
        ("hardswish", 1 / 3),
        ("tanh", 0),
        ("softplus", 0.25),
        ("elu(2)", 2),
        ("celu(2)", 0.5),
    ],
)
def test_slopes_of_the_derivative(spec, slope):
    assert curvature(activation(spec)) == pytest.approx(slope, abs=1e-5)


def test_blocks_of_rows_and_the_rest_of_the_grid_change_nothing(monkeypatch):
    def found(**options):
        return gradient_errors([RELU, GELU], steps=50, ep=0.4, repetitions=2, seed=3, **options)

    whole = found()
    steps = []
    monkeypatch.setattr(gradients, "_AT_ONCE", 400)
    for one, other in zip(whole, found(progress=lambda *done: steps.append(done)), strict=True):
        for name in gradients.REGIONS:
            assert one.region(name).maximum == other.region(name).maximum
            assert one.region(name).mean == pytest.approx(other.region(name).mean, rel=1e-12)
    assert steps == [(done, 68) for done in range(1, 69)]
    for one, other in zip(whole, found(full=False), strict=True):
        assert other.full is None
        assert one.near_zero.maximum == other.near_zero.maximum
        assert one.near_zero.mean == pytest.approx(other.near_zero.mean, rel=1e-12)


def test_the_noise_is_that_of_seed_and_repetition():
    def means(activations, **options):
        return [each.full.mean for each in gradient_errors(activations, steps=20, **options)]

    two = means([RELU, GELU], repetitions=2, seed=1)
    assert two == means([RELU, GELU], repetitions=2, seed=1)
    assert [each[:1] for each in two] == means([RELU, GELU], repetitions=1, seed=1)
    assert two[1:] == means([GELU], repetitions=2, seed=1)
    assert two != means([RELU, GELU], repetitions=2, seed=2)
    assert two[0][0] != two[0][1]


@pytest.mark.parametrize(("region", "cells", "block"), [("full", 257, 1), ("full", 20, 5), ("near zero", 7, 4)])
def test_a_map_shows_the_largest_error_of_each_block(region, cells, block, monkeypatch):
    monkeypatch.setattr(gradients, "_AT_ONCE", 1000)
    p = 48
    errors = numpy_repetition(p, 0.5, 9, 1)[GELU]
    shown = errors if region == "full" else near(errors, p)
    found = error_map(GELU, region, steps=p, ep=0.5, seed=9, repetition=1, cells=cells)
    starts = range(0, len(shown), block)
    expected = [[shown[i : i + block, j : j + block].max() for j in starts] for i in starts]
    assert found.block == block
    assert np.allclose(found.values, expected, rtol=1e-9)
    assert found.low == pytest.approx((-1 if region == "full" else -0.25) - 0.5 / p)
    assert found.high == pytest.approx(found.low + len(starts) * block / p)


def test_intervals_are_those_of_student():
    values = [3.0, 4.5, 5.0, 9.0]
    found = estimate(values)
    assert (found.lower, found.upper) == pytest.approx(
        stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    )
    assert estimate([2.0]).lower is None
    with pytest.raises(InvalidValueError):
        estimate([])


def test_no_ratio_to_what_makes_no_error():
    (line,) = gradient_errors([activation("hardsigmoid")], steps=8, repetitions=2)
    assert line.full.maximum == (0, 0)
    compared = ratio(Errors((1.0, 1.0), (0.5, 0.5)), line.full)
    assert (compared.maximum, compared.mean) == (None, None)
    points = scaling(RELU, activation("hardsigmoid"), steps=(8, 16), eps=(0.5,), repetitions=2)
    assert [(each.scaled, each.slope) for each in points] == [(None, None)] * 2


@pytest.mark.parametrize(
    "options",
    [{"steps": 0}, {"steps": 5000}, {"steps": 2.5}, {"ep": 1.0}, {"ep": 0.0}, {"repetitions": 0}, {"seed": -1}],
)
def test_numbers_out_of_range(options):
    with pytest.raises(InvalidValueError):
        gradient_errors([RELU], **{"steps": 8, "repetitions": 1, **options})


def test_what_cannot_be_asked():
    with pytest.raises(InvalidValueError, match="elementwise"):
        gradient_errors([activation("abrelu")], steps=8)
    with pytest.raises(InvalidValueError, match="cells"):
        error_map(RELU, "full", steps=8, cells=0)
    with pytest.raises(InvalidValueError, match="ascending"):
        scaling(RELU, GELU, steps=(32, 16))
