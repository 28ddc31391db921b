"""What is shipped: the wheel built from the sdist works from another folder, without the checkout."""

import json
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(*command, cwd):
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The sdist of the checkout, and the wheel of that sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (sdist,) = folder.glob("*.tar.gz")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder, sdist, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """An environment with the wheel, which sees the packages of this one but not its robustcheck."""
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "env", cwd=folder)
    python = folder / "env" / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", built[1], cwd=folder)
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    (site / "outer.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python.parent, site, folder


def test_the_archives_hold_all_content_and_no_code_in_content_folders(built):
    sdist, wheel = built
    names = zipfile.ZipFile(wheel).namelist()
    content = {
        f"robustcheck/{path.relative_to(ROOT)}"
        for folder, suffixes in (
            ("sensors", {".toml", ".md"}),
            ("models", {".toml", ".safetensors", ".md"}),
            ("reports", {".html", ".css", ".md"}),
        )
        for path in (ROOT / folder).iterdir()
        if path.suffix in suffixes
    }
    assert content
    assert content <= set(names)
    assert {name.split("/")[0] for name in names if "dist-info" not in name} == {"robustcheck"}
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "LICENSE", "sensors/adc-8bit.toml", "models/digits-convnet.safetensors"} <= held


def test_the_installed_command_finds_its_content_from_another_folder(installed):
    binaries, site, folder = installed
    sensors = json.loads(run(binaries / "robustcheck", "sensors", "list", "--json", cwd=folder))
    models = json.loads(run(binaries / "robustcheck", "models", "list", "--json", cwd=folder))
    assert len(sensors) == len(list((ROOT / "sensors").glob("*.toml")))
    studies = json.loads(run(binaries / "robustcheck", "models", "studies", "--json", cwd=folder))
    shipped = sorted(path.stem for path in (ROOT / "models").glob("*.toml"))
    assert [model["name"] for model in models] == [name for name in shipped if not name.startswith("study-")]
    assert sorted(studies) == [name for name in shipped if name.startswith("study-")]
    where = run(binaries / "python", "-c", "import robustcheck.content as c; print(c.shelf('models'))", cwd=folder)
    assert Path(where.strip()) == site / "robustcheck" / "models"


def test_nothing_is_called_models_at_the_top_level(installed):
    binaries, _, folder = installed
    probe = (
        "import importlib.util as u; print([n for n in ('models', 'sensors', 'reports', 'tests') if u.find_spec(n)])"
    )
    assert run(binaries / "python", "-c", probe, cwd=folder).strip() == "[]"
