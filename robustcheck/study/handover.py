"""What a worker process is given of a loaded study, and how it takes it up without doing its loading again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from robustcheck.data.shared import SharedDataset, share
from robustcheck.errors import ModelError
from robustcheck.sensing.sensor import Sensor
from robustcheck.study.cells import LoadedStudy, load_choice
from robustcheck.study.plan import Study


@dataclass(frozen=True)
class Handover:
    """A loaded study without its arrays and networks, whose classes may be the user's own and defy pickling."""

    study: Study
    data: SharedDataset
    model_hashes: tuple[str, ...]
    sensors: tuple[Sensor, ...]
    activations: tuple[str, ...]
    device: str

    def open(self) -> LoadedStudy:
        """The study, for `run_cell`: its data mapped, its models loaded anew. What was checked is not checked again.

        Raises:
            ModelError: a model is not what it was, or cannot be loaded.
        """
        data = self.data.open()
        models = tuple(load_choice(choice, data) for choice in self.study.models)
        for model, expected in zip(models, self.model_hashes, strict=True):
            if model.sha256 != expected:
                raise ModelError(
                    f"{model.origin}: expected the model that this run began with (SHA-256 {expected[:12]}…), got "
                    f"another ({model.sha256[:12]}…): its files changed meanwhile, or its code builds another network "
                    "each time; run again, or give it fixed weights with --weights"
                )
        # Cells do not look at sites; a report does, in the process that began.
        return LoadedStudy(self.study, data, models, (), self.sensors, self.activations, (), self.device)


def hand_over(loaded: LoadedStudy, folder: Path) -> Handover:
    """Make a study ready for other processes.

    Args:
        loaded: from `load_study`.
        folder: an empty one, for the data; it must stay until the last worker has ended.

    Raises:
        DataError: the folder cannot be written.
    """
    return Handover(
        loaded.study,
        share(loaded.data, folder),
        tuple(model.sha256 for model in loaded.models),
        loaded.sensors,
        loaded.activations,
        loaded.device,
    )
