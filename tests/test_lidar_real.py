"""A real turn of a VLP-16: what is measured in it, and that docs/lidar.md says what the simulation gives."""

import re

import numpy as np
import pytest
from lidar_turn import DOCUMENT, Comparison, compare, filled, reach_m, real_turn, scatter_cm, smoothed, tables


@pytest.fixture(scope="module")
def found() -> Comparison:
    return compare()


def test_the_turn_is_what_its_notice_says():
    turn = real_turn()
    assert turn.ranges.shape == turn.codes.shape == (16, 1800)
    np.testing.assert_array_equal(turn.elevation_deg, np.arange(15, -17, -2))
    returned = turn.ranges > 0
    assert 1 - returned.mean() == pytest.approx(0.216, abs=5e-4)
    assert turn.ranges[returned].min() == pytest.approx(2.4, abs=0.05)
    assert turn.ranges.max() == pytest.approx(108.35, abs=0.05)
    np.testing.assert_array_equal(np.percentile(turn.codes[returned], [1, 50, 99]), [1, 11, 69])


def test_the_measured_scatter(found):
    measured = {angle: ground.measured for angle, ground in found.ground.items()}
    assert measured == pytest.approx({-15: 0.85, -13: 1.09, -11: 1.21, -9: 1.45}, abs=0.005)
    smooth = [ground.measured_smooth for ground in found.ground.values()]
    assert smooth == pytest.approx([0.605, 0.726, 0.847, 0.847], abs=0.001)


def test_the_estimator_of_the_scatter_on_a_slope_with_gaussian_noise():
    noise = np.random.default_rng(0).normal(0, 0.02, 200_000)
    ranges = 10 + 1e-4 * np.arange(200_000) + noise
    assert scatter_cm(ranges) == pytest.approx(2.0, rel=0.01)
    ranges[::10] = 0
    assert scatter_cm(ranges) == pytest.approx(2.0, rel=0.01)


def test_the_truth_is_smooth_where_it_was_smoothed_and_untouched_elsewhere():
    turn = real_turn()
    ranges, codes = filled(turn)
    returned = turn.ranges > 0
    np.testing.assert_array_equal(ranges[returned], turn.ranges[returned])
    np.testing.assert_array_equal(codes[returned], turn.codes[returned])
    truth, smooth = smoothed(ranges)
    np.testing.assert_array_equal(truth[~smooth], ranges[~smooth])
    assert np.abs(truth - ranges).max() < 0.15
    for row in range(12, 16):
        assert scatter_cm(truth[row], smooth[row]) < 0.2


def test_gaps_are_closed_in_one_surface_alone():
    turn = real_turn()
    ranges, codes = turn.ranges[:1, :40].copy(), turn.codes[:1, :40].copy()
    ranges[:] = 10.0
    ranges[0, 5:8], ranges[0, 12:30], ranges[0, 33:35], ranges[0, 35:] = 0, 0, 0, 12.0
    ranges[0, 8], codes[0, 4], codes[0, 8] = 10.4, 10, 14
    closed, filled_codes = filled(type(turn)(turn.elevation_deg[:1], ranges, codes))
    np.testing.assert_allclose(closed[0, 5:8], [10.1, 10.2, 10.3])
    np.testing.assert_allclose(filled_codes[0, 5:8], [11, 12, 13])
    assert not closed[0, 12:30].any()
    assert not closed[0, 33:35].any()


def test_the_reach_of_a_10_percent_reflector_is_its_range():
    assert reach_m(np.full(9, 30.0), np.full(9, 10.0)) == pytest.approx(30)
    assert reach_m(np.full(9, 60.0), np.full(9, 40.0)) == pytest.approx(30)


def test_the_document_says_what_the_simulation_gives(found):
    """Within Monte Carlo error; after a change of the profile `python tests/lidar_turn.py` writes it anew."""
    text = DOCUMENT.read_text(encoding="utf-8")
    written = text.partition("<!-- numbers -->")[2].partition("<!-- /numbers -->")[0].strip()
    number = re.compile(r"\d[\d.,]*")
    assert number.sub("0", written) == number.sub("0", tables(found))
    seen, fresh = ([float(n.strip(".").replace(",", "")) for n in number.findall(t)] for t in (written, tables(found)))
    assert seen == pytest.approx(fresh, rel=0.05, abs=0.2)


def test_what_the_document_concludes(found):
    for ground in found.ground.values():
        assert 3.0 < ground.simulated_smooth.mean < 3.3
        assert 3.5 < ground.simulated_smooth.mean / ground.measured_smooth < 5.5
        assert ground.measured_smooth < ground.third_smooth.mean < 1.2
        assert ground.simulated.mean > ground.measured
    far = [found.distances[name] for name in ("30–40", "40–60", "60–100")]
    assert all(0.3 < at.lost.mean < 0.5 and at.missing / at.firings < 0.12 for at in far)
    assert all(42.5 < at.reach_m < 46.5 and 34 < at.simulated_reach_m.mean < 36 for at in far)
    near = [found.distances[name] for name in ("2–5", "5–10")]
    assert all(at.lost.mean < 0.002 and 0.01 < at.missing / at.firings < 0.02 for at in near)
    assert sum(abs(measured - simulated.mean) for measured, simulated in found.codes.values()) / 2 < 0.03
    assert found.beyond == 16
    assert (found.empty, found.closed) == (6209, 364)
