"""Fixtures that several test files share."""

import importlib.util
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from robustcheck.reporting.report import Report

_SPEC = importlib.util.spec_from_file_location("synthetic_report", Path(__file__).with_name("synthetic_report.py"))
_synthetic = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_synthetic)


def pytest_configure() -> None:
    """A shell starts what it puts into the background without Ctrl-C, which some tests send."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need a Debian package are left out where there is none; .ci/run installs both."""
    absent = {
        "chromium": shutil.which("chromium") is None,
        "fashion_mnist": not Path("/usr/share/datasets/fashion-mnist").is_dir(),
    }
    for item in items:
        for marker in item.iter_markers():
            if absent.get(marker.name):
                package = "chromium" if marker.name == "chromium" else "dataset-fashion-mnist"
                item.add_marker(pytest.mark.skip(reason=f"needs the Debian package {package}"))


@pytest.fixture(scope="session")
def build_report() -> Callable[..., Report]:
    """Makes a synthetic report; see `synthetic_report.build` for what can be chosen."""
    return _synthetic.build


@pytest.fixture(scope="session")
def compare_report(build_report: Callable[..., Report]) -> Report:
    return build_report()


@pytest.fixture(scope="session")
def audit_report(build_report: Callable[..., Report]) -> Report:
    return build_report("audit", bits=(2, 3, 4))
