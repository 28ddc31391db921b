"""ONNX Runtime as a torch module, beside torch itself."""

import copy
import io
import warnings
from pathlib import Path

import pytest
import torch
from onnx import ModelProto, TensorProto
from torch import nn

from robustcheck.errors import InvalidValueError, ModelError
from robustcheck.networks.onnx import runtime
from robustcheck.networks.onnx.runtime import RuntimeNetwork


@pytest.fixture(scope="module")
def native() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(144, 5)).eval()


def exported(native: nn.Module, *, batch: int | None = None, x: torch.Tensor | None = None) -> bytes:
    file = io.BytesIO()
    axes = None if batch else {"x": {0: "n"}, "y": {0: "n"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = torch.zeros(batch or 1, 1, 8, 8) if x is None else x
        names = {"input_names": ["x"], "output_names": ["y"]}
        torch.onnx.export(native, (x,), file, dynamo=False, opset_version=17, dynamic_axes=axes, **names)
    return file.getvalue()


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("count", [0, 1, 3, 8])
def test_it_agrees_with_torch(native: nn.Module, count: int) -> None:
    found = RuntimeNetwork(exported(native), input_name="x", output_name="y")(images(count))
    torch.testing.assert_close(found, native(images(count)).detach(), rtol=1e-5, atol=1e-5)
    assert found.dtype == torch.float32
    assert not found.requires_grad


@pytest.mark.parametrize("count", [0, 1, 3, 4, 8])
def test_a_fixed_batch_is_fed_in_pieces(native: nn.Module, count: int) -> None:
    network = RuntimeNetwork(exported(native, batch=3), input_name="x", output_name="y", batch=3)
    torch.testing.assert_close(network(images(count)), native(images(count)).detach(), rtol=1e-5, atol=1e-5)


def test_other_precision_and_layout_in_memory(native: nn.Module) -> None:
    double = copy.deepcopy(native[2:]).double()  # it has no convolutions in this precision
    x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(2))
    found = RuntimeNetwork(exported(double, x=x.double()), input_name="x", output_name="y")(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, double(x.double()).float().detach())
    strided = images(4)[::2].transpose(2, 3)
    network = RuntimeNetwork(exported(native), input_name="x", output_name="y")
    torch.testing.assert_close(network(strided), native(strided).detach(), rtol=1e-5, atol=1e-5)


def test_several_outputs_and_a_file(native: nn.Module, tmp_path: Path) -> None:
    model = ModelProto.FromString(exported(native))
    hidden = model.graph.node[0].output[0]
    model.graph.output.add(name=hidden).type.tensor_type.elem_type = TensorProto.FLOAT
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    first, second = RuntimeNetwork(path, input_name="x", output_name=(hidden, "y"))(images(2))
    torch.testing.assert_close(first, native[0](images(2)).detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(second, native(images(2)).detach(), rtol=1e-5, atol=1e-5)


def test_sessions_are_made_late_and_never_copied(native: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    make = runtime.make_session
    monkeypatch.setattr(
        runtime, "make_session", lambda source, threads, level: made.append(threads) or make(source, threads, level)
    )
    network = RuntimeNetwork(exported(native), input_name="x", output_name="y")
    assert made == []
    first = network(images(2))
    assert torch.equal(network(images(2)), first)
    assert len(made) == 1
    twin = copy.deepcopy(network)
    assert twin.model is network.model
    assert torch.equal(twin(images(2)), first)
    assert len(made) == 2
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        network(images(2))
    finally:
        torch.set_num_threads(threads)
    assert made == [threads, threads, threads + 1]
    assert list(network.parameters()) == []


def test_what_does_not_fit_is_an_error(native: nn.Module) -> None:
    data = exported(native)
    with pytest.raises(ModelError, match="expected one float input 'image', the model has x: tensor"):
        RuntimeNetwork(data, input_name="image", output_name="y")(images(1))
    with pytest.raises(ModelError, match="does not run it"):
        RuntimeNetwork(data, input_name="x", output_name="y")(torch.zeros(1, 1, 9, 9))
    with pytest.raises(ModelError, match="does not load it"):
        RuntimeNetwork(b"nothing", input_name="x", output_name="y")(images(1))
    with pytest.raises(InvalidValueError, match="batch"):
        RuntimeNetwork(data, input_name="x", output_name="y", batch=0)
