"""Six architectures of the sweep; `make matrix` runs all of them."""

import importlib.util
import sys
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location("architectures", Path(__file__).with_name("architectures.py"))
architectures = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = architectures
_SPEC.loader.exec_module(architectures)


@pytest.mark.parametrize("name", architectures.QUICK)
def test_sites_are_what_runs_and_swaps_take_effect(name):
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    row = architectures.check(name)
    assert row.problems == ()
    assert row.sites > 0


def test_the_sweep_spans_enough():
    families = {name.partition(":")[2].split("_")[0].rstrip("0123456789") for name in architectures.ARCHITECTURES}
    assert len(architectures.ARCHITECTURES) >= 44
    assert len(families) >= 40
    assert set(architectures.QUICK) <= set(architectures.ARCHITECTURES)
