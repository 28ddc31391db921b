"""`robustcheck demo`: which studies it runs."""

import pytest
from click.testing import CliRunner

from robustcheck.cli import demo


@pytest.mark.parametrize(
    ("arguments", "model", "data", "sensors", "seeds"),
    [
        ((), "digits-convnet", "digits", {"adc-2bit", "adc-4bit", "adc-8bit"}, 5),
        (("--lidar", "--seeds", "3"), "lidar-rangenet", "lidar-scenes", {"lidar-vlp16"}, 3),
    ],
)
def test_the_demo_is_of_digits_or_of_a_lidar(arguments, model, data, sensors, seeds, tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(demo, "run_and_report", lambda params, study: ran.append((params["out"], study)) or 0)
    out = tmp_path / "shown"
    result = CliRunner().invoke(demo.demo, ["-o", str(out), *arguments], catch_exceptions=False, standalone_mode=False)
    assert result.return_value == 0
    (audit_out, audit), (compare_out, compare) = ran
    assert (audit_out, compare_out) == (out / "audit", out)
    assert (audit.kind, compare.kind, compare.seeds) == ("audit", "compare", seeds)
    assert {choice.spec for choice in audit.sensors} == sensors
    assert {choice.spec for choice in compare.sensors} <= sensors
    for study in (audit, compare):
        assert ([choice.spec for choice in study.models], study.data.spec) == ([model], data)
        assert bool(study.signals) == ("lidar" in model)
        assert bool(study.eps) == ("lidar" not in model)
    assert ("LIDAR" in result.output or "Velodyne" in result.output) == ("lidar" in model)
    assert f"{seeds} networks" in result.output
