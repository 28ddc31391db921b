"""Operating points from option values."""

import itertools

import pytest

from robustcheck.errors import InvalidValueError
from robustcheck.study.point_ranges import parse_eps, parse_exposures, parse_shares


def test_a_range_of_light_has_equal_ratios():
    found = parse_shares(("0.001:0.5:5",), "exposure")
    assert found == tuple(sorted(found))
    assert (found[0], found[-1], len(found)) == (0.001, 0.5, 5)
    ratios = [b / a for a, b in itertools.pairwise(found)]
    assert ratios == pytest.approx([500**0.25] * 4, rel=1e-8)


def test_a_falling_range_says_the_same():
    assert parse_shares(("1:0.01:3",), "signal") == parse_shares(("0.01:1:3",), "signal")


def test_illuminances_come_after_shares_in_one_spelling():
    assert parse_exposures(("200lx", "0.5", "20 lx", "0.1")) == (0.1, 0.5, "20 lx", "200 lx")
    assert parse_exposures(("10lx:1000lx:3", "100 lx")) == ("10 lx", "100 lx", "1000 lx")


@pytest.mark.parametrize(
    ("call", "texts", "message"),
    [
        (parse_eps, ("1",), "expected 0 < EP < 1, got 1.0"),
        (parse_eps, ("0.1:0.2",), "a range a:b:n"),
        (lambda texts: parse_shares(texts, "signal"), ("0",), "signal: expected 0 < signal <= 1, got 0.0"),
        (lambda texts: parse_shares(texts, "signal"), ("0:1:3",), "a range a:b:n"),
        (lambda texts: parse_shares(texts, "signal"), ("0.1:1:1",), "a range a:b:n"),
        (parse_exposures, ("1.5",), "exposure: expected 0 < exposure <= 1, got 1.5"),
        (parse_exposures, ("10:100lx:3",), "expected lx at both ends"),
        (parse_exposures, ("dimlx",), "exposure: expected a number"),
    ],
)
def test_nonsense_is_refused_with_what_was_expected(call, texts, message):
    with pytest.raises(InvalidValueError) as caught:
        call(texts)
    assert message in str(caught.value)
