"""Report files are written whole or not at all."""

import errno
import os

import pytest

from robustcheck.errors import ReportError
from robustcheck.reporting.files import write, write_report
from robustcheck.reporting.report import Report


def test_writes_all_formats_and_charts(tmp_path, build_report):
    report = build_report(activations=("relu", "gelu"), seeds=2)
    folder = tmp_path / "new" / "out"
    paths = write_report(report, folder, charts=True)
    names = [str(path.relative_to(folder)) for path in paths]
    charts = [
        f"charts/{name}.{end}" for name in ("accuracy", "ranks", "difference", "training") for end in ("png", "svg")
    ]
    assert names == ["report.json", "report.md", "report.html", *charts]
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == sorted(paths)
    assert Report.load(folder / "report.json") == report
    assert "charts/training.png" in (folder / "report.md").read_text()
    before = {path: path.read_bytes() for path in paths}
    assert {path: path.read_bytes() for path in write_report(report, folder, charts=True)} == before


def test_without_charts_no_picture_is_named(tmp_path, build_report):
    paths = write_report(build_report(activations=("relu", "gelu"), seeds=2), tmp_path, charts=False)
    assert [path.name for path in paths] == ["report.json", "report.md", "report.html"]
    assert "![" not in paths[1].read_text()


def test_full_disk_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    write(path, b"old")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ReportError, match="No space left"):
        write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made(tmp_path, build_report):
    (tmp_path / "file").touch()
    with pytest.raises(ReportError, match="choose another folder"):
        write_report(build_report(activations=("relu", "gelu"), seeds=2), tmp_path / "file" / "out")
