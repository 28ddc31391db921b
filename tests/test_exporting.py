"""Writing torch models as ONNX, against ONNX Runtime."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from robustcheck.errors import ModelError, UsageError
from robustcheck.networks.inputs import InputSpec
from robustcheck.networks.loading import Model, load_model
from robustcheck.networks.onnx.exporting import export_onnx
from robustcheck.networks.saving import swapped_model
from robustcheck.networks.surgery import swap_activation
from robustcheck.sensing.random import torch_seed

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def model_of(network, shape):
    return Model(network.eval(), InputSpec(shape), None, "test:net", "")


def agrees(model, path):
    session = onnxruntime.InferenceSession(path)
    for count in (1, 5):
        with torch_seed(2):
            x = torch.rand(count, *model.input.shape)
        with torch.no_grad():
            expected = model.network(x).numpy()
        np.testing.assert_allclose(session.run(["logits"], {"input": x.numpy()})[0], expected, atol=1e-5, rtol=1e-5)


class Untraceable(nn.Module):
    """Calls functions, one of them in a loop, and does different things in training."""

    def __init__(self):
        super().__init__()
        self.layers, self.drop = nn.ModuleList(nn.Linear(6, 6) for _ in range(2)), nn.Dropout()

    def forward(self, x):
        x = x.flatten(1)
        for layer in self.layers:
            x = F.relu(layer(x))
        if self.training:
            raise AssertionError("exported in training mode")
        return self.drop(x)


def test_swapped_models_are_written_by_the_default_exporter_in_silence(tmp_path, capfd):
    for model in (load_model("digits-convnet"), model_of(Untraceable(), (1, 2, 3))):
        swapped = swapped_model(model, swap_activation(model, "prelu"))
        swapped.network.train()
        written = export_onnx(swapped, tmp_path / "net.onnx")
        assert (written.exporter, written.reason) == ("default", "")
        assert swapped.network.training
        swapped.network.eval()
        agrees(swapped, tmp_path / "net.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("opset", [18, 20])
def test_the_opset_is_the_one_that_was_asked_for(tmp_path, opset):
    model = load_model("digits-convnet")
    export_onnx(model, tmp_path / "net.onnx", opset=opset)
    assert [entry.version for entry in onnx.load(tmp_path / "net.onnx").opset_import if not entry.domain] == [opset]
    agrees(model, tmp_path / "net.onnx")


class ByValue(nn.Module):
    """Branches on a value, which the default exporter refuses and the legacy one fixes."""

    def forward(self, x):
        return x.flatten(1).relu() if float(x.sum()) > -1e9 else x


def test_the_legacy_exporter_where_the_default_one_fails(tmp_path):
    model = model_of(ByValue(), (1, 2, 2))
    written = export_onnx(model, tmp_path / "net.onnx")
    assert written.exporter == "legacy"
    assert written.reason
    agrees(model, tmp_path / "net.onnx")


def test_what_cannot_be_written(tmp_path, monkeypatch):
    class Never(nn.Module):
        def forward(self, x):
            raise RuntimeError("no way")

    with pytest.raises(
        ModelError, match=r"its default exporter says: .*; its legacy exporter says: RuntimeError: no way"
    ):
        export_onnx(model_of(Never(), (1, 2, 2)), tmp_path / "net.onnx")
    model = load_model("digits-convnet")
    with pytest.raises(UsageError, match="shape of its images"):
        export_onnx(replace(model, input=InputSpec()), tmp_path / "net.onnx")
    assert export_onnx(replace(model, input=InputSpec()), tmp_path / "net.onnx", shape=model.input.shape)
    with pytest.raises(ModelError, match="folder that can be written"):
        export_onnx(model, tmp_path / "nowhere" / "net.onnx")

    def missing(*args, **kwargs):
        raise ModuleNotFoundError("No module named 'onnxscript'", name="onnxscript")

    monkeypatch.setattr(torch.onnx, "export", missing)
    with pytest.raises(UsageError, match=r"pip install 'robustcheck\[onnx\]'"):
        export_onnx(model, tmp_path / "other.onnx")
    assert {path.name for path in tmp_path.iterdir()} == {"net.onnx"}


def test_a_surrogate_is_written_as_its_value_alone(tmp_path):
    swapped = swapped_model(load_model("digits-convnet"), swap_activation(load_model("digits-convnet"), "surrogate"))
    export_onnx(swapped, tmp_path / "net.onnx")
    operators = {node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node}
    assert "Relu" in operators
    assert not operators & {"Gelu", "Erf", "Sub"}
    agrees(swapped, tmp_path / "net.onnx")
