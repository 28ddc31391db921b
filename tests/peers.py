"""What other converters from ONNX to torch make of files of the export matrix, tried in processes of their own."""

from __future__ import annotations

import importlib.util
import multiprocessing
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import export_networks
import exports
import onnx
import torch
from activation_trace import traced_activations
from torch import nn

LIMIT_S: Final = 120


@dataclass(frozen=True)
class Peer:
    """What a converter made of one file.

    Attributes:
        error: why it gave no network, or why the network did not run; None where both went well.
        converts: whether it gave a network.
        difference: to ONNX Runtime, max |a − b| over max(1, max |b|); None where it did not run.
        weights: elements of parameters that train, and how many of them there should be.
        activations: how many of the activations that are applied have a module of their kind, by its class's name.
        graph_unchanged: whether the graph that it was given is still the same.
    """

    error: str | None = None
    converts: bool = False
    difference: float | None = None
    weights: tuple[int, int] | None = None
    activations: tuple[int, int] | None = None
    graph_unchanged: bool | None = None


def try_peer(name: str, files: Sequence[tuple[Path, str]], limit_s: float = LIMIT_S) -> Iterator[Peer | None]:
    """The result for each file (its path, and the name of its network), None where the package is not installed.

    One process takes file after file; where it crashes or takes too long for one, another goes on behind that.
    """
    if importlib.util.find_spec(name) is None:
        yield from [None] * len(files)
        return
    context = multiprocessing.get_context("spawn")
    done = 0
    while done < len(files):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_serve, args=(theirs, name, list(files[done:])), daemon=True)
        process.start()
        theirs.close()
        try:
            while done < len(files):
                if not ours.poll(limit_s):
                    raise EOFError(f"no result after {limit_s:g} s")
                result = ours.recv()
                done += 1
                yield result
        except (EOFError, OSError) as error:
            done += 1
            yield Peer(error=str(error) or "the process crashed")
        finally:
            process.kill()
            process.join()
            ours.close()


def _serve(connection: Connection, name: str, files: list[tuple[Path, str]]) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for path, network in files:
        connection.send(_tried(name, path, network))


def _onnx2torch(proto: Any) -> Any:
    from onnx2torch import convert

    return convert(proto)


def _onnx2pytorch(proto: Any) -> Any:
    from onnx2pytorch import ConvertModel

    return ConvertModel(proto)


CONVERTERS: Final[dict[str, Callable[[Any], Any]]] = {"onnx2torch": _onnx2torch, "onnx2pytorch": _onnx2pytorch}


def _tried(name: str, path: Path, network: str) -> Peer:
    source = export_networks.build(network)
    applied = traced_activations(source, export_networks.inputs(2))
    proto = onnx.load(path)
    expected = exports.expected_weights(source, proto)
    before = proto.SerializeToString(deterministic=True)
    try:
        module: nn.Module = CONVERTERS[name](proto).eval()
    except Exception as error:
        return Peer(_words(error), graph_unchanged=proto.SerializeToString(deterministic=True) == before)
    wanted = Counter(kind.partition("(")[0].replace("_", "") for kind, _ in applied)
    found = wanted & Counter(name for each in module.modules() for name in _names(each))
    weights = sum(each.numel() for each in module.parameters() if each.requires_grad)
    peer = Peer(converts=True, weights=(weights, expected), activations=(found.total(), len(applied)))
    try:
        with torch.no_grad():
            differences = [
                exports.relative(module(x), exports.runtime(path, x))
                for x in (export_networks.inputs(1, 1), export_networks.inputs(5, 2))
            ]
        unchanged = proto.SerializeToString(deterministic=True) == before
        return Peer(None, True, max(differences), peer.weights, peer.activations, unchanged)
    except Exception as error:
        unchanged = proto.SerializeToString(deterministic=True) == before
        return Peer(_words(error), True, None, peer.weights, peer.activations, unchanged)


def _names(module: Any) -> list[str]:
    """A module's class as a kind is written, without the prefix that some give theirs; ReLU6 may be a clip at 6."""
    name = type(module).__name__.lower().removeprefix("onnx")
    if name == "gelu" and "tanh" in str(module):
        return ["gelutanh"]
    if name == "clip" and "6" in str(module):
        return ["relu6"]
    return [name]


def _words(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160] if lines else 'no message'}"
