"""Error probability against the facts' check values, AnalogVNN, and Monte Carlo."""

import numpy as np
import pytest
from analogvnn.nn.noise.GaussianNoise import GaussianNoise
from analogvnn.nn.noise.LaplacianNoise import LaplacianNoise
from hypothesis import given
from hypothesis import strategies as st

from robustcheck.errors import InvalidValueError, UnknownNameError
from robustcheck.sensing.error_probability import (
    bits_of_steps,
    error_probability,
    noise_sigma,
    steps_for,
    steps_of_bits,
)

# sigma * p by EP (arXiv 2402.02593, computed in float64).
SIGMA_STEPS = {
    0.1: 0.30398, 0.2: 0.39015, 0.3: 0.48242, 0.4: 0.59409, 0.5: 0.74130,
    0.6: 0.95347, 0.7: 1.29762, 0.8: 1.97358, 0.9: 3.97895,
}  # fmt: skip
NOISES = ["gaussian", "uniform", "laplace"]
DEFINITIONS = ["centre", "adc"]


@pytest.mark.parametrize(("ep", "scale"), SIGMA_STEPS.items())
@pytest.mark.parametrize("steps", [1, 4, 15, 64])
def test_sigma_by_error_probability(ep, scale, steps):
    assert noise_sigma(ep, steps) * steps == pytest.approx(scale, abs=6e-6)
    assert error_probability(scale / steps, steps) == pytest.approx(ep, abs=1e-5)


@pytest.mark.parametrize(("sigma", "centre", "adc"), [(0.25, 0.046, 0.1995), (0.5, 0.317, 0.3905), (1, 0.617, 0.6314)])
def test_the_two_definitions(sigma, centre, adc):
    assert error_probability(sigma, 1) == pytest.approx(centre, abs=5e-4)
    assert error_probability(sigma, 1, definition="adc") == pytest.approx(adc, abs=5e-4)


@pytest.mark.parametrize("ep", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("steps", [3, 16, 255])
def test_agrees_with_analogvnn(ep, steps):
    assert noise_sigma(ep, steps) == pytest.approx(float(GaussianNoise.calc_std(ep, steps)), rel=1e-9)
    assert noise_sigma(ep, steps, noise="laplace") == pytest.approx(
        float(LaplacianNoise.calc_scale(ep, steps)), rel=1e-6
    )


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("definition", DEFINITIONS)
@pytest.mark.parametrize("scale", [0.3, 0.8, 1.7])
def test_agrees_with_monte_carlo(noise, definition, scale):
    rng, n = np.random.default_rng(7), 400_000
    draw = {"gaussian": rng.normal, "laplace": rng.laplace, "uniform": lambda _, s, n: rng.uniform(-s, s, n)}[noise]
    within = rng.uniform(-0.5, 0.5, n) if definition == "adc" else 0.0
    frequency = np.mean(np.abs(within + draw(0, scale, n)) > 0.5)
    expected = error_probability(scale, 1, noise=noise, definition=definition)
    assert frequency == pytest.approx(expected, abs=5 * 0.5 / np.sqrt(n))


@given(
    ep=st.floats(1e-6, 0.999),
    steps=st.integers(1, 65535),
    noise=st.sampled_from(NOISES),
    definition=st.sampled_from(DEFINITIONS),
)
def test_any_two_give_the_third(ep, steps, noise, definition):
    sigma = noise_sigma(ep, steps, noise=noise, definition=definition)
    assert error_probability(sigma, steps, noise=noise, definition=definition) == pytest.approx(ep, rel=1e-6)
    assert steps_for(ep, sigma, noise=noise, definition=definition) == pytest.approx(steps, rel=1e-9)


def test_steps_and_bits():
    assert [steps_of_bits(b) for b in (1, 2, 8, 16)] == [1, 3, 255, 65535]
    assert bits_of_steps(64) == pytest.approx(np.log2(65))


@pytest.mark.parametrize("ep", [0, 1, -0.1, 1.5, float("nan"), "0.5"])
def test_an_error_probability_outside_the_open_interval_is_refused(ep):
    with pytest.raises(InvalidValueError, match="expected 0 < EP < 1"):
        noise_sigma(ep, 15)


@pytest.mark.parametrize("bits", [0, 0.5, 17, float("nan")])
def test_bits_out_of_range_are_refused(bits):
    with pytest.raises(InvalidValueError, match="bits: expected 1 to 16"):
        steps_of_bits(bits)


@pytest.mark.parametrize("sigma", [0, -1, float("inf"), float("nan")])
def test_a_noise_scale_out_of_range_is_refused(sigma):
    with pytest.raises(InvalidValueError, match="noise scale"):
        error_probability(sigma, 15)
    with pytest.raises(InvalidValueError, match="noise scale"):
        steps_for(0.5, sigma)


@pytest.mark.parametrize("steps", [0, -3, 65536])
def test_steps_out_of_range_are_refused(steps):
    with pytest.raises(InvalidValueError, match="steps"):
        noise_sigma(0.5, steps)
    with pytest.raises(InvalidValueError, match="steps"):
        error_probability(0.5, steps)


def test_unknown_names_are_refused():
    with pytest.raises(UnknownNameError, match="unknown noise 'normal'"):
        noise_sigma(0.5, 15, noise="normal")
    with pytest.raises(UnknownNameError, match="did you mean 'centre'"):
        noise_sigma(0.5, 15, definition="center")
