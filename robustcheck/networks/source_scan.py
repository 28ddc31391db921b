"""Finds activation functions in the source of a forward that cannot be traced."""

from __future__ import annotations

import ast
import builtins
import inspect
import textwrap
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from robustcheck.networks.call_sites import ANY_CALL, file_of
from robustcheck.networks.kinds import SQUASHING, function_kind, function_name, kind_name, overwrites_input
from robustcheck.networks.roles import Role, Use
from robustcheck.networks.tracing import Place

_NAMESPACES = (torch, F, torch.special)


def scan(module: nn.Module, path: str) -> list[Use]:
    """Calls of activation functions in the module's forward, its other methods and the functions that these call.

    What a sigmoid or tanh is for cannot be seen in the source, so those count as gates. Each call stands for all
    calls that its line makes. Source that cannot be read yields nothing; calls that were not found here are an error
    when the swapped network meets them.
    """
    forward = type(module).forward
    return list(_scan_function(forward, module, path, set())) if isinstance(forward, FunctionType) else []


def _scan_function(function: FunctionType, module: nn.Module, path: str, seen: set[FunctionType]) -> Iterator[Use]:
    function = inspect.unwrap(function)
    if function in seen or len(seen) > 100 or (function.__module__ or "").startswith("torch."):
        return
    seen.add(function)
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return
    offset = function.__code__.co_firstlineno - 1
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = _resolve(node.func, function, module)
        if isinstance(called, FunctionType) and not (called.__module__ or "").startswith("torch"):
            yield from _scan_function(called, module, path, seen)
            continue
        use = _use(node, called, path, file_of(function.__code__), offset)
        if use is not None:
            yield use


def _use(node: ast.Call, called: Any, path: str, file: str, offset: int) -> Use | None:
    args = [_literal(arg) for arg in node.args]
    kwargs = {keyword.arg: _literal(keyword.value) for keyword in node.keywords if keyword.arg}
    if called is None and isinstance(node.func, ast.Attribute):
        raw = node.func.attr
        args.insert(0, None)
    elif _is_torch_function(called):
        raw = called.__name__
    else:
        return None
    kind = function_kind(function_name(raw), args, kwargs)
    if kind is None:
        return None
    place = Place(path, function_name(raw), file, node.lineno + offset, ANY_CALL)
    # Whether later code reads an overwritten input cannot be told either, so it is written back to be safe.
    overwrites = overwrites_input(raw, args, kwargs)
    last_line = (node.end_lineno or node.lineno) + offset
    role: Role = "gate" if kind_name(kind) in SQUASHING else "activation"
    return Use(place, kind, role, False, overwrites=overwrites, last_line=last_line)


def _resolve(expression: ast.expr, function: FunctionType, module: nn.Module) -> Any:
    """What a dotted name means in a function, None where it is a value that exists only at run time."""
    if isinstance(expression, ast.Name):
        closure = inspect.getclosurevars(function).nonlocals if function.__closure__ else {}
        if expression.id == "self":
            return module
        scope = {**vars(builtins), **function.__globals__, **closure}
        return scope.get(expression.id)
    if isinstance(expression, ast.Attribute):
        owner = _resolve(expression.value, function, module)
        found = getattr(owner, expression.attr, None) if isinstance(owner, ModuleType | nn.Module) else None
        return getattr(found, "__func__", found)
    return None


def _is_torch_function(called: Any) -> bool:
    name = getattr(called, "__name__", None)
    return isinstance(called, Callable) and any(  # type: ignore[arg-type]
        isinstance(name, str) and getattr(space, name, None) is called for space in _NAMESPACES
    )


def _literal(expression: ast.expr) -> Any:
    try:
        return ast.literal_eval(expression)
    except ValueError:
        return object()
