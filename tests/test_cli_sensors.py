"""`robustcheck sensors`: what is listed, shown and started, as a user sees it."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from robustcheck.cli.sensors import sensors
from robustcheck.errors import UnknownNameError, UsageError
from robustcheck.sensing.camera import camera_setting
from robustcheck.sensing.camera_ep import reading
from robustcheck.sensing.camera_profile import CameraProfile
from robustcheck.sensing.lidar_profile import LidarProfile
from robustcheck.sensing.profile import load_sensor, sensor_names
from robustcheck.sensing.template import ABOUT, STARTS, new_profile


def run(*arguments: str, columns: int = 120, check: bool = True) -> Result:
    result = CliRunner(env={"COLUMNS": str(columns), "TERM": "xterm-256color"}).invoke(sensors, arguments)
    if check:
        assert result.exit_code == 0, result.output
    return result


def found(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json").stdout)


def test_list_has_every_profile_with_what_is_assumed() -> None:
    rows = {row["name"]: row for row in found("list")}
    assert list(rows) == sensor_names()
    for name, row in rows.items():
        profile = load_sensor(name)
        assert (row["kind"], row["title"], row["numbers"]) == (profile.kind, profile.title, len(profile.numbers))
        assert row["assumed"] == list(profile.assumed)
    camera = load_sensor("camera-imx477")
    assert isinstance(camera, CameraProfile)
    row = rows["camera-imx477"]
    assert (row["bits"], row["captures"], row["full_well_e"], row["read_noise_e"]) == (12, 1, 8180, 3)
    assert row["ep_at_1_percent"] == reading(camera_setting(camera, exposure=0.01)).ep
    assert row["ep_at_50_percent"] == reading(camera_setting(camera, exposure=0.5)).ep
    assert row["snr_max_db"] == pytest.approx(39.1, abs=0.2)
    assert rows["camera-ox03c10"]["captures"] == 4
    assert (rows["lidar-vlp16"]["beams"], rows["lidar-vlp16"]["range_lsb_m"]) == (16, 0.002)
    assert (rows["adc-4bit"]["steps"], round(rows["adc-4bit"]["sigma_at_ep_half"], 3)) == (15, 0.049)


@pytest.mark.parametrize("kind", ["converter", "camera", "lidar"])
def test_list_can_be_of_one_kind(kind: str) -> None:
    names = [name for name in sensor_names() if load_sensor(name).kind == kind]
    assert [row["name"] for row in found("list", "--kind", kind)] == names
    text = run("list", "--kind", kind).stdout
    assert re.findall(r"^(?:adc|camera|lidar)-\S+", text, flags=re.M) == names
    assert ("EP:" in text) == (kind == "camera")


@pytest.mark.parametrize("columns", [80, 120])
def test_tables_fit_the_terminal_and_cut_no_name(columns: int) -> None:
    text = run("list", columns=columns).stdout
    assert max(map(len, text.splitlines())) <= columns
    assert re.findall(r"^(?:adc|camera|lidar)-\S+", text, flags=re.M) == sensor_names()
    assert "…" not in text
    assert ("Sony IMX477" in text) == (columns == 120)
    for name in ("camera-ox03c10", "lidar-vlp16"):
        shown = run("show", name, columns=columns).stdout.splitlines()
        assert max(map(len, shown[:-1])) <= columns
        assert shown[-1] == f"sha256 {load_sensor(name).sha256}"
        assert "…" not in "".join(shown)


@pytest.mark.parametrize("name", ["adc-8bit", "camera-imx477", "camera-ov-split-pixel", "lidar-os1-64"])
def test_show_has_every_number_with_its_status_and_source(name: str) -> None:
    text = run("show", name, columns=400).stdout
    profile = load_sensor(name)
    for place, number in profile.numbers.items():
        part = re.escape(place.rpartition(".")[2])
        assert re.search(rf"^{part} +{re.escape(str(number))} +{number.status} +{re.escape(number.source)}", text, re.M)
    lines = [line for line in text.splitlines() if "numbers are assumed" in line]
    if not profile.assumed:
        assert lines == []
    else:
        assert lines[0].startswith(f"{len(profile.assumed)} of {len(profile.numbers)} numbers are assumed")
        assert lines[0].rstrip().endswith(", ".join(profile.assumed))
    assert profile.description in " ".join(text.split())


def test_show_names_captures_companding_and_what_does_not_fit() -> None:
    text = run("show", "camera-ar0331", columns=200).stdout
    assert "hdr.captures.0  capture T2" in text
    assert "hdr.companding  A-law" in text
    assert "hdr  multi-exposure" in text
    assert not re.search(r"^NO ", text, re.M)
    assert re.search(r"^NO +full scale +1088 +972.8 to 1075 DN", run("show", "camera-imx363").stdout, re.M)
    assert "fit each other" not in run("show", "adc-8bit").stdout


def test_show_reads_a_camera_at_three_exposures_and_its_operating_points() -> None:
    camera = load_sensor("camera-imx255")
    assert isinstance(camera, CameraProfile)
    readings = found("show", "camera-imx255")["readings"]
    assert [row["exposure"] for row in readings] == [0.01, 0.1, 0.5, 0.5, 0.1, 0.01, 0.001]
    assert [row["name"] for row in readings] == [None, None, None, *camera.operating_points]
    for row in readings:
        expected = reading(camera_setting(camera, exposure=row["exposure"]))
        assert (row["ep"], row["ep_adc"], row["sigma_steps"]) == (expected.ep, expected.ep_adc, expected.sigma_steps)
    text = run("show", "camera-imx255").stdout
    assert re.search(rf"^10% of saturation +0.1 +\S+ +{readings[1]['ep']:.4g} ", text, re.M)
    assert re.search(rf"^night +0.001 +\S+ +{readings[-1]['ep']:.4g} ", text, re.M)
    assert found("show", "lidar-vlp16")["readings"] == []


def test_show_json_is_the_profile_and_more() -> None:
    shown = found("show", "camera-imx363")
    profile = load_sensor("camera-imx363")
    assert {key: shown[key] for key in type(profile).model_fields} == profile.model_dump(mode="json")
    assert (shown["sha256"], shown["steps"], shown["assumed"]) == (profile.sha256, 1023, list(profile.assumed))
    findings = {finding["name"]: finding for finding in shown["findings"]}
    assert [name for name, finding in findings.items() if not finding["ok"]] == ["full scale"]
    assert findings["noise in the dark"]["high"] is None


def test_set_changes_a_number_which_is_then_assumed() -> None:
    text = run("show", "camera-imx477", "--set", "read_noise_e=5", "--set", "prnu=0.02", columns=200).stdout
    assert re.search(r"^read_noise_e +5 electron +assumed +set by the user to 5", text, re.M)
    assert re.search(r"^prnu +0.02 +assumed +set by the user", text, re.M)
    assert re.search(r"^NO +dynamic range", text, re.M)
    shown = found("show", "camera-imx477", "--set", "read_noise_e=5")
    assert "read_noise_e" in shown["assumed"]
    assert shown["sha256"] != load_sensor("camera-imx477").sha256
    with pytest.raises(UnknownNameError, match="did you mean 'read_noise_e'"):
        raise run("show", "camera-imx477", "--set", "read_noise=5", check=False).exception  # type: ignore[misc]
    assert run("show", "camera-imx477", "--set", "prnu", check=False).exit_code == 2


def test_colours_are_for_terminals_alone() -> None:
    assert "\x1b" not in run("list").stdout + run("show", "camera-imx477").stdout


def test_texts_of_a_file_can_switch_nothing_on(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    text = new_profile("mine", load_sensor("adc-8bit"))
    text = text.replace("copied from adc-8bit", "[red]see[/red]").replace(
        'description = ""', 'description = "[link=x]y"'
    )
    path.write_text(text.replace('title = "mine"', 'title = "[bold]z"'), encoding="utf-8")
    shown = run("show", str(path)).stdout
    assert "[red]see[/red]" in shown
    assert "\n[link=x]y\n" in shown
    assert "[bold]z" in shown


@pytest.mark.parametrize(
    "start", [name for name in sensor_names() if not name.startswith("adc-") or name == "adc-8bit"]
)
def test_a_new_profile_is_valid_and_wholly_assumed(start: str, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "mine.toml"
    assert found("new", "mine", "--from", start, "-o", str(path))["path"] == str(path)
    made, base = load_sensor(path), load_sensor(start)
    assert (made.name, made.kind) == ("mine", base.kind)
    assert set(made.assumed) == set(made.numbers)
    expected = {place: number for place, number in base.numbers.items() if not place.startswith("published.")}
    assert list(made.numbers) == list(expected)
    for place, number in made.numbers.items():
        before = expected[place]
        assert number.model_dump(exclude={"status", "source"}) == before.model_dump(exclude={"status", "source"})
        assert number.source == f"copied from {start}"
    assert run("show", str(path)).stdout.startswith("mine")


@pytest.mark.parametrize("kind", STARTS)
def test_a_new_profile_starts_from_a_part_of_its_kind_and_says_what_next(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = run("new", "mine", "--kind", kind).stdout
    assert STARTS[kind] in text
    assert "robustcheck sensors show ./mine.toml" in text
    assert "--sensor ./mine.toml" in text
    written = (tmp_path / "mine.toml").read_text(encoding="utf-8")
    assert tomllib.loads(written)["kind"] == kind
    for line, key in re.findall(r"^(?!#)(.*?)\n(\w+) = \{", written, flags=re.M):
        assert line.startswith("# ") or "{" in line or line.startswith("["), key


def test_a_new_profile_overwrites_nothing_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("precious")
    with pytest.raises(UsageError, match=r"exists, and was left as it is.*--force"):
        raise run("new", "mine", "-o", str(path), check=False).exception  # type: ignore[misc]
    assert path.read_text() == "precious"
    run("new", "mine", "-o", str(path), "--force")
    assert load_sensor(path).kind == "camera"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mine", "--kind", "lidar", "--from", "camera-imx477"), "expected a lidar, got camera-imx477"),
        (("Mine",), "new profile 'Mine': name: .*use lower case"),
        (("camera-imx477",), "new profile 'camera-imx477': expected a name of its own, .* such as my-camera-imx477"),
        (("lidar-vlp16", "--kind", "lidar", "--force"), "got that of a shipped profile"),
        (("mine", "--from", "camera-imx4777"), "did you mean 'camera-imx477'"),
        (("mine", "-o", "mine.txt"), r"expected a file that ends in \.toml, got 'mine\.txt'"),
    ],
)
def test_what_cannot_be_started_is_refused(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        raise run("new", *arguments, check=False).exception  # type: ignore[misc]
    assert list(tmp_path.iterdir()) == []


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    text = new_profile("mine", load_sensor("adc-8bit"))
    path.write_text(text, encoding="utf-8-sig")
    assert load_sensor(path).name == "mine"
    path.write_text(text.replace('unit = "bit"', 'unit = "byte"'), encoding="utf-8-sig")
    line = next(number for number, line in enumerate(text.splitlines(), start=1) if line.startswith("bits"))
    with pytest.raises(UsageError, match=rf"mine\.toml, line {line}: field bits: expected the unit 'bit'"):
        load_sensor(path)


def test_a_profile_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml: cannot be read: expected a TOML file, got no file of this name"):
        load_sensor(tmp_path / "none.toml")


def test_every_number_of_every_record_is_explained() -> None:
    for record in (CameraProfile, LidarProfile):
        own = set(record.model_fields) - {"name", "kind", "title", "description"}
        assert own - {"hdr", "published", "operating_points", "range_noise_by_snr"} <= set(ABOUT)
