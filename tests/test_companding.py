"""Companding: the published curves against whole-number arithmetic, round trips, steps, and shot noise."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from robustcheck.errors import InvalidValueError
from robustcheck.sensing.camera_profile import Companding
from robustcheck.sensing.companding import decode, encode, step
from robustcheck.sensing.profile import load_sensor
from robustcheck.sensing.quantity import Table


def curve(inputs: list[float], outputs: list[float]) -> Companding:
    cited = {"unit": "DN", "kind": "exact", "status": "datasheet", "source": "named beside the curve"}
    return Companding(
        title="test", input_dn=Table(values=tuple(inputs), **cited), output_dn=Table(values=tuple(outputs), **cited)
    )


# onsemi AR0331 data sheet, A-law 12 to 10 bits: the first input of each row, and what its inputs are divided by.
AR0331_ROWS = [(0, 1), (128, 1), (256, 2), (512, 4), (1024, 4), (2048, 8), (4096, 0)]
AR0331 = curve([0, 256, 512, 1024, 2048, 4096], [0, 256, 384, 512, 768, 1024])

# OmniVision OX03C10, 24 to 12 bits, from the registers that openpilot programs (system/camerad/sensors/
# ox03c10_registers.h, 0x5e01 to 0x5e84): for each segment the exponent of its width and its number of codes.
OX03C10_EXPONENTS = [9, 9] + 3 * [10] + [n for n in range(11, 18) for _ in range(2)]
OX03C10_EXPONENTS += 4 * [18] + 3 * [19] + 3 * [20] + 3 * [21] + [22]
OX03C10_CODES = [512, 255] + 3 * [256] + 12 * [128] + 16 * [64]
OX03C10_INPUTS = [sum(2**n for n in OX03C10_EXPONENTS[:i]) for i in range(34)]
OX03C10_OUTPUTS = [sum(OX03C10_CODES[:i]) for i in range(34)]
OX03C10 = curve(OX03C10_INPUTS, OX03C10_OUTPUTS)

# A slope that is no power of two, and one between 1 and 2.
UNEVEN = curve([0, 10, 40, 1000], [0, 10, 31, 100])
CURVES = {"ar0331": AR0331, "ox03c10": OX03C10, "uneven": UNEVEN}
CURVES |= {f"shipped {name}": load_sensor(f"camera-{name}").hdr.companding for name in ("ar0331", "ox03c10")}


def whole_codes(x: int, inputs: list[int], outputs: list[int]) -> int:
    """⌊C(x)⌋ in whole numbers."""
    for (x0, x1), (y0, y1) in zip(pairwise(inputs), pairwise(outputs), strict=True):
        if x < x1:
            return y0 + (x - x0) * (y1 - y0) // (x1 - x0)
    raise AssertionError


def inputs_of(companding: Companding) -> torch.Tensor:
    """All linear codes of a curve, thinned out beyond 2^17."""
    end = int(companding.input_dn.values[-1])
    dense = torch.arange(min(end, 2**17), dtype=torch.float32)
    return torch.cat([dense, torch.arange(2**17, end, 97, dtype=torch.float32)]) if end > 2**17 else dense


def test_the_ar0331_table_is_that_of_its_data_sheet():
    codes = encode(torch.arange(4096.0), AR0331).tolist()
    expected, first = [], 0
    for (start, divisor), (end, _) in pairwise(AR0331_ROWS):
        expected += [first + (x - start) // divisor for x in range(start, end)]
        first += (end - start) // divisor
    assert first == 1024
    assert codes == expected
    assert encode(torch.arange(4096.0), CURVES["shipped ar0331"]).tolist() == expected
    shipped = CURVES["shipped ox03c10"]
    assert (shipped.input_dn.values, shipped.output_dn.values) == (OX03C10.input_dn.values, OX03C10.output_dn.values)


def test_the_ox03c10_table_is_whole_number_arithmetic():
    assert OX03C10_INPUTS[-1] == 2**24
    assert OX03C10_OUTPUTS[-1] == 4095
    generator = torch.Generator().manual_seed(0)
    random = torch.randint(0, 2**24, (2000,), generator=generator).tolist()
    near = [knee + offset for knee in OX03C10_INPUTS for offset in (-2, -1, 0, 1, 2) if 0 <= knee + offset < 2**24]
    values = random + near + list(range(512, 1024))
    expected = [whole_codes(x, OX03C10_INPUTS, OX03C10_OUTPUTS) for x in values]
    assert encode(torch.tensor(values, dtype=torch.float32), OX03C10).tolist() == expected
    assert encode(torch.tensor(values, dtype=torch.float64), OX03C10).tolist() == expected


def test_the_ox03c10_slopes_are_those_of_its_data_path():
    """The slopes that openpilot's kernel has between its output knees (ox03c10_cl.h), less the last code of each."""
    knees = [0, 512, 768, 1536, 1792, 2048, 2304, 2560, 2816]
    for slope, (start, end) in zip([1, 2, 4, 16, 32, 64, 128, 256], pairwise(knees), strict=True):
        steps = step(decode(torch.arange(start, end - 2), OX03C10), OX03C10)
        assert steps.mean() == pytest.approx(slope, rel=0.005)
    assert decode(torch.tensor([2815]), OX03C10).item() == 2**17 + (512 - 1) / 2


@pytest.mark.parametrize("name", CURVES)
def test_every_code_comes_back(name):
    codes = torch.arange(int(CURVES[name].output_dn.values[-1]))
    assert torch.equal(encode(decode(codes, CURVES[name]), CURVES[name]), codes)


@pytest.mark.parametrize("name", CURVES)
def test_linear_codes_come_back_within_half_a_step(name):
    x = inputs_of(CURVES[name])
    steps = step(x, CURVES[name])
    error = decode(encode(x, CURVES[name]), CURVES[name]) - x
    assert bool((error.abs() <= steps / 2).all())
    assert bool((error[steps == 1] == 0).all())
    assert bool((torch.diff(encode(x, CURVES[name])) >= 0).all())


@pytest.mark.parametrize("name", ["ar0331", "uneven"])
def test_the_centre_is_the_mean_of_the_codes_that_share_one(name):
    x = inputs_of(CURVES[name])
    codes = encode(x, CURVES[name])
    counts = torch.bincount(codes)
    means = torch.bincount(codes, weights=x.double()) / counts
    assert torch.equal(decode(torch.arange(len(counts)), CURVES[name]).double(), means)
    assert torch.equal(step(x, CURVES[name]), counts[codes].float())


def test_quantisation_of_uniform_values_has_the_variance_of_the_step():
    x = torch.arange(2048, 4096, dtype=torch.float64)
    error = decode(encode(x, AR0331), AR0331) - x
    # Of whole values: (step² − 1) / 12.
    assert float(error.square().mean()) == pytest.approx((8**2 - 1) / 12, rel=1e-12)


def test_values_between_codes_are_rounded_and_those_outside_clipped():
    assert encode(torch.tensor([255.4, 255.6, 258.5, 259.5]), AR0331).tolist() == [255, 256, 257, 258]
    assert encode(torch.tensor([-1e9, -0.6, 4095.0, 4096.0, 1e9]), AR0331).tolist() == [0, 0, 1023, 1023, 1023]
    assert decode(torch.tensor([-5, 1023, 1024, 99999]), AR0331).tolist() == [0.0, 4091.5, 4091.5, 4091.5]


def test_any_shape_and_layout():
    x = torch.arange(4080.0).reshape(2, 5, 8, 51)
    flat = decode(encode(x.flatten(), AR0331), AR0331)
    turned = decode(encode(x.permute(0, 3, 1, 2), AR0331), AR0331)
    assert torch.equal(turned.permute(0, 2, 3, 1).flatten(), flat)
    assert encode(torch.zeros(0, 3), AR0331).shape == (0, 3)


def test_errors_say_what_is_wrong():
    for ends in ((100.5, 50), (1e12, 50), (100, 4e9)):
        with pytest.raises(ValueError, match="expected whole numbers at the end"):
            curve([0, ends[0]], [0, ends[1]])
    with pytest.raises(InvalidValueError, match="expected codes that each stand for at least one linear code"):
        decode(torch.zeros(1), curve([0, 10, 110], [0, 20, 60]))
