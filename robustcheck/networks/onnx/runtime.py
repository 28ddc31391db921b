"""A network that runs in ONNX Runtime: fast forward passes on the CPU, without gradients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from robustcheck.errors import InvalidValueError, ModelError
from robustcheck.networks.onnx.session import make_session, refused

_DTYPES: Final[dict[str, torch.dtype]] = {
    "tensor(float)": torch.float32,
    "tensor(double)": torch.float64,
    "tensor(float16)": torch.float16,
}


class RuntimeNetwork(nn.Module):
    """A checked ONNX model as a module without parameters; copies share the model, and make sessions of their own."""

    def __init__(
        self,
        model: bytes | Path,
        *,
        input_name: str,
        output_name: str | Sequence[str],
        batch: int | None = None,
        optimisation: str = "all",
    ) -> None:
        """Take a model; ONNX Runtime loads it at the first call.

        Args:
            model: its bytes, or the path of a file, which may have external data beside it.
            input_name: of the input that takes the samples; it must be the only one without a default.
            output_name: one output's name, or several.
            batch: how many samples the model takes at once, where that is fixed.
            optimisation: how far ONNX Runtime may rewrite the graph, 'all' or 'disabled'.
        """
        super().__init__()
        if batch is not None and batch < 1:
            raise InvalidValueError("batch", expected="1 or more, or None", got=batch)
        self.model = model
        self.input_name = input_name
        self.output_names = [output_name] if isinstance(output_name, str) else list(output_name)
        self.single = isinstance(output_name, str)
        self.batch = batch
        self.optimisation = optimisation
        self._session: Any = None
        self._threads = 0
        self._dtype = torch.float32

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The outputs for samples (n, …) of floats, in float32 on the device of `x`; one tensor for a single output.

        Runs with as many threads as torch does; a fixed batch is fed piece by piece, the last one filled up.

        Raises:
            ModelError: ONNX Runtime does not load the model, or does not run it on this shape.
        """
        self._prepare()
        count = len(x)
        fed = x.detach().to("cpu", self._dtype).contiguous()
        if self.batch is None or count == self.batch:
            found = self._run(fed)
        else:
            pieces = [self._run(_filled(piece, self.batch)) for piece in torch.split(fed, self.batch)]
            found = [torch.cat(parts)[:count] for parts in zip(*pieces, strict=True)]
        found = [each.to(x.device, torch.float32) for each in found]
        return found[0] if self.single else tuple(found)

    def _prepare(self) -> None:
        threads = torch.get_num_threads()
        if self._session is not None and threads == self._threads:
            return
        source = self.model if isinstance(self.model, bytes) else str(self.model)
        session = make_session(source, threads, self.optimisation)
        types = {each.name: each.type for each in session.get_inputs()}
        if set(types) != {self.input_name} or types[self.input_name] not in _DTYPES:
            known = ", ".join(f"{name}: {kind}" for name, kind in types.items())
            raise ModelError(f"ONNX Runtime: expected one float input {self.input_name!r}, the model has {known}")
        self._session, self._threads, self._dtype = session, threads, _DTYPES[types[self.input_name]]

    def _run(self, fed: Tensor) -> list[Tensor]:
        try:
            found = self._session.run(self.output_names, {self.input_name: fed.numpy()})
        except Exception as error:  # its classes have no common base
            raise refused(error, "run") from error
        return [torch.from_numpy(np.asarray(each)) for each in found]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_session": None}


def _filled(piece: Tensor, batch: int) -> Tensor:
    missing = batch - len(piece)
    if missing == 0:
        return piece
    last = piece[-1:] if len(piece) else piece.new_zeros(1, *piece.shape[1:])
    return torch.cat([piece, last.expand(missing, *piece.shape[1:])])
