"""Runs a study from plan to report: the one path that every command and the Python interface take."""

from __future__ import annotations

import platform
import tempfile
import time
from pathlib import Path
from typing import Any

from robustcheck.reporting.build import build_report
from robustcheck.reporting.report import Report
from robustcheck.study import runner
from robustcheck.study.cells import load_study
from robustcheck.study.plan import Study
from robustcheck.study.store import Store


def run_study(
    study: Study,
    out: str | Path | None = None,
    *,
    jobs: int = 1,
    device: str = "cpu",
    download: bool = False,
    progress: runner.OnProgress = lambda _: None,
    command: str | None = None,
) -> Report:
    """Run a study and report on it. Cells that the folder's store holds are not run again.

    Args:
        study: what to run.
        out: folder of the store; a temporary one where absent, and then nothing is kept.
        jobs: worker processes, of one thread each. The report is the same whatever the number.
        device: where networks train and run.
        download: whether data and weights may be downloaded.
        progress: called when a cell begins or ends.
        command: what to run to make this report again, for its provenance.

    Returns:
        The report; `report.failures` lists the cells that could not be finished.

    >>> study = Study.create(
    ...     kind="audit",
    ...     models=[{"spec": "digits-convnet"}],
    ...     data={"spec": "digits", "max_samples": 100},
    ...     sensors=[{"spec": "adc-4bit"}],
    ...     eps=[0.5],
    ... )
    >>> [result.point.label for result in run_study(study).results[0].points]
    ['clean', 'quantised only', 'EP 0.5']
    """
    if out is None:
        with tempfile.TemporaryDirectory(prefix="robustcheck-") as folder:
            return run_study(study, folder, jobs=jobs, device=device, download=download, progress=progress)
    started = time.time()
    loaded = load_study(study, device=device, download=download)
    with Store(Path(out), study.document()) as store:
        outcome = runner.run(loaded, store, jobs=jobs, progress=progress)
        return build_report(outcome, store, _provenance(command, started, jobs, device))


def _provenance(command: str | None, started: float, jobs: int, device: str) -> dict[str, Any]:
    return {
        "command": command,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started, 1),
        "jobs": jobs,
        "device": device,
        "host": {"system": platform.system(), "machine": platform.machine(), "processor": platform.processor()},
        "versions": runner.versions(),
    }
