"""Where in the user's code a call is made: the file and the line, the same while tracing and while running."""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from pathlib import Path
from types import CodeType, FrameType

import torch
from torch import nn

ANY_CALL = -1
"""Stands for every call that a line makes, where the number of calls is not known."""

_TORCH = str(Path(torch.__file__).parent) + os.sep
_TORCH_MODULES = str(Path(torch.__file__).parent / "nn" / "modules") + os.sep
_OURS = tuple(str(Path(__file__).with_name(name)) for name in ("call_sites.py", "tracing.py", "rerouting.py"))
_MODULE_CALL: CodeType = nn.Module._call_impl.__code__
_GENERATED = "<eval_with_key>"


def calling_frame() -> FrameType | None:
    """The innermost frame that is neither torch's machinery nor our own; a torch module's forward counts."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_machinery(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def file_of(code: CodeType) -> str:
    """The file of a piece of code; forwards that torch.fx generated are renumbered whenever they are copied."""
    name = code.co_filename
    return _GENERATED if name.startswith(_GENERATED) else name


def is_module_call(frame: FrameType) -> bool:
    """Whether the frame is torch's entry to a module, so that what lies within belongs to that module."""
    return frame.f_code is _MODULE_CALL


@lru_cache(maxsize=4096)
def _is_machinery(filename: str) -> bool:
    return filename in _OURS or (filename.startswith(_TORCH) and not filename.startswith(_TORCH_MODULES))
