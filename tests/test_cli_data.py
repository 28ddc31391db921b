"""`robustcheck data`, and the data options that other commands share."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from robustcheck.cli.data import data
from robustcheck.cli.options import data_options, image_size, load_data_from
from robustcheck.data.datasets import KINDS, load_data
from robustcheck.data.preprocessing import Preprocessing
from robustcheck.errors import DataError, UnknownNameError, UsageError


def run(*arguments: str) -> Result:
    return CliRunner().invoke(data, arguments)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for label in ("[red]cat", "dog"):
        (tmp_path / label).mkdir()
        for row in range(5):
            Image.fromarray(rng.integers(0, 256, (6, 6), dtype=np.uint8)).save(tmp_path / label / f"{row}.png")
    (tmp_path / "[red]cat" / "bad.png").write_bytes(b"")
    return tmp_path


def test_list_names_every_kind() -> None:
    text = run("list").stdout
    rows = json.loads(run("list", "--json").stdout)
    assert [row["kind"] for row in rows] == list(KINDS)
    for row in rows:
        assert row["grammar"] in text
        assert row["example"].startswith(row["kind"])


def test_show_json_is_the_summary_of_the_data_set() -> None:
    arguments = ("--split-seed", "3", "--max-samples", "100", "--resize", "4x6", "--crop", "4x4", "--json")
    shown = json.loads(run("show", "digits", *arguments).stdout)
    preprocessing = Preprocessing(resize=(4, 6), crop=(4, 4))
    loaded = load_data("digits", split_seed=3, max_samples=100, preprocessing=preprocessing)
    assert shown["sha256"] == loaded.sha256
    assert shown["shape"] == [1, 4, 4]
    assert shown["preprocessing"] == {"resize": [4, 6], "crop": [4, 4], "flip": False, "random_crop_padding": None}
    for name, split in loaded.splits.items():
        assert shown["splits"][name] == {"samples": len(split), "per_class": np.bincount(split.labels.numpy()).tolist()}
    pixels = np.concatenate([split.images.numpy().ravel() for split in loaded.splits.values()])
    assert shown["range"] == [float(pixels.min()), float(pixels.max())]


def test_show_prints_counts_notes_and_names_as_they_are(folder: Path) -> None:
    result = run("show", f"folder:{folder}")
    assert result.exit_code == 0
    for text in ("[red]cat", "1×6×6", "uint8", "[red]cat/bad.png", "1 of 11 image files could not be read", "sha256"):
        assert text in " ".join(result.stdout.split())
    counts = {line.split()[1]: line.split()[3:9:2] for line in result.stdout.splitlines() if line.startswith("│")}
    assert counts["dog"] == ["3", "1", "1"]
    assert sum(map(int, counts["[red]cat"])) == 5
    assert sum(map(int, counts["all"])) == 10


def test_show_counts_many_classes_in_json_and_some_in_the_table(tmp_path: Path) -> None:
    labels = np.repeat(np.arange(120), 3)
    np.savez(tmp_path / "a.npz", x=np.zeros((360, 2, 2), np.uint8), y=labels)
    assert "and 20 more" in run("show", f"npz:{tmp_path / 'a.npz'}").stdout
    shown = json.loads(run("show", f"npz:{tmp_path / 'a.npz'}", "--json").stdout)
    assert shown["splits"]["test"]["per_class"] == [1] * 120


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("digit",), UnknownNameError),
        (("folder",), UsageError),
        (("digits", "--max-samples", "5"), UsageError),
        (("digits", "--crop", "9x9"), DataError),
        (("folder:/does/not/exist",), DataError),
        (("npz:/does/not/exist.npz",), DataError),
    ],
)
def test_errors_carry_their_exit_code(arguments: tuple[str, ...], error: type[Exception]) -> None:
    result = run("show", *arguments, "--json")
    assert isinstance(result.exception, error)
    assert result.stdout == ""


@pytest.mark.parametrize("size", ["32", "0x4", "4x", "axb", "4x4x4", "-1x4", "1000000x1", "4 x 4"])
def test_sizes_that_are_none_end_with_a_usage_error(size: str) -> None:
    result = run("show", "digits", "--resize", size)
    assert result.exit_code == 2
    assert "'--resize': expected HEIGHTxWIDTH in pixels, such as 32x32" in result.stderr
    with pytest.raises(click.BadParameter):
        image_size(size)


def test_data_options_reach_load_data() -> None:
    seen: list[dict[str, Any]] = []

    @click.command()
    @data_options
    def command(**params: Any) -> None:
        seen.append(params)

    runner = CliRunner()
    options = (
        "--data digits --max-samples 60 --resize 9x9 --crop 8x8 --pad 10x12 --flip --random-crop-padding 2 --rotate 15"
        " --split-seed 4"
    )
    assert runner.invoke(command, options.split()).exit_code == 0
    loaded = load_data_from(seen[0], class_names=tuple("abcdefghij"))
    assert loaded.preprocessing == Preprocessing((9, 9), (8, 8), True, 2, pad=(10, 12), rotate=15)
    assert loaded.shape == (1, 10, 12)
    assert (loaded.split_seed, loaded.classes[3]) == (4, "d")
    assert sum(map(len, loaded.splits.values())) == 60
    assert runner.invoke(command, []).exit_code == 0
    assert load_data_from(seen[1], default="digits").sha256 == load_data("digits").sha256
    with pytest.raises(UsageError, match="--data"):
        load_data_from(seen[1])


@pytest.mark.parametrize("command", [(), ("list",), ("show",)])
def test_help_has_examples(command: tuple[str, ...]) -> None:
    result = run(*command, "--help")
    assert "Examples:\n" in result.stdout
    assert "robustcheck data" in result.stdout


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, click.testing, robustcheck.cli.data as c\n"
        "click.testing.CliRunner().invoke(c.data, ['show', '--help'])\n"
        "heavy = {'torch', 'torchvision', 'albumentations', 'sklearn', 'scipy', 'PIL', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
