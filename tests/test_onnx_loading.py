"""ONNX files as models: loaded, audited in ONNX Runtime, trained, delivered, from Python and the command line."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx_builder import Builder, normal
from torch import nn

from robustcheck import channel, evaluate, load_data, load_model, swap_activation
from robustcheck.cli.main import main
from robustcheck.errors import ModelError, UsageError
from robustcheck.networks.delivering import write_model
from robustcheck.networks.loading import initialise
from robustcheck.networks.onnx.runtime import RuntimeNetwork
from robustcheck.networks.saving import swapped_model
from robustcheck.sensing.analog import NoisyNetwork
from robustcheck.sensing.channel import Channel
from robustcheck.sensing.operating_point import OperatingPoint
from robustcheck.sensing.sensor import sensor
from robustcheck.study import evaluation
from robustcheck.study.evaluation import evaluated_network
from robustcheck.study.training import train


def digits_file(path, *, softmax=False, batch="n"):
    """A network for digits with ten classes; the convolution's names are those of a folded batch norm."""
    b = Builder([batch, 1, 8, 8])
    x = b.add("Conv", "x", b.tensor("onnx::Conv_7", normal(8, 1, 3, 3, scale=0.5)), b.tensor("bias", normal(8)))
    x = b.add("Relu", x, name="/act/Relu")
    x = b.add("GlobalAveragePool", x)
    x = b.add("Flatten", x)
    x = b.add("Gemm", x, b.tensor("fc.weight", normal(10, 8)), b.tensor("fc.bias", normal(10)), transB=1)
    if softmax:
        x = b.add("Softmax", x, axis=1)
    return str(b.save(path, x, [batch, 10]))


@pytest.fixture
def path(tmp_path):
    return digits_file(tmp_path / "net.onnx")


def test_what_was_assumed_and_verified_is_said(path, tmp_path):
    notes = " ".join(load_model(path).notes)
    assert "agrees with ONNX Runtime" in notes
    assert "'x' float32 (n, 1, 8, 8) is taken to be NCHW, RGB, in [0, 1], not normalised" in notes
    assert "batch normalisation was folded into 1 convolution " in notes
    assert "softmax" not in notes
    fixed = " ".join(load_model(digits_file(tmp_path / "fixed.onnx", softmax=True, batch=3)).notes)
    assert "the softmax at the end is left away" in fixed
    assert "fixes its batch to 3" in fixed


def test_the_layout_is_guessed_and_can_be_said(tmp_path):
    b = Builder(["n", 8, 6, 3])
    x = b.add("ReduceMean", "x", b.tensor("axes", np.array([1, 2])), keepdims=0)
    x = b.add("MatMul", x, b.tensor("w", normal(3, 4)))
    path = str(b.save(tmp_path / "net.onnx", x, ["n", 4]))
    model = load_model(path)
    assert (model.input.layout, model.input.shape) == ("NHWC", (3, 8, 6))
    assert model.network(model.input.normalise(torch.rand(2, 3, 8, 6))).shape == (2, 4)
    assert load_model(path, layout="NCHW").input.layout == "NCHW"


@pytest.mark.parametrize("softmax", [False, True])
def test_an_audit_runs_the_file_in_onnx_runtime_and_gives_the_same(tmp_path, monkeypatch, softmax):
    model, data = load_model(digits_file(tmp_path / "net.onnx", softmax=softmax)), load_data("digits", max_samples=300)
    network = evaluated_network(model, "sensor")
    assert any(isinstance(module, RuntimeNetwork) for module in network.modules())
    noisy = channel("adc-4bit", ep=0.5)
    found = evaluate(model, data, noisy, draws=2)
    monkeypatch.setattr(evaluation, "evaluated_network", lambda model, *_: model.network)
    expected = evaluate(model, data, noisy, draws=2)
    np.testing.assert_array_equal(found.predicted, expected.predicted)
    np.testing.assert_allclose(found.probability, expected.probability, atol=1e-5)


def test_onnx_runtime_is_left_once_the_network_is_another(path):
    model, data = load_model(path), load_data("digits", max_samples=300)
    swapped = swapped_model(model, swap_activation(model, "gelu"))
    trained = train(model, data, policy={"epochs": 1}).model
    for other in (swapped, trained):
        assert evaluated_network(other, "sensor") is other.network
    assert evaluated_network(model, "network") is model.network


def test_noise_reaches_every_layer_of_the_graph(path):
    model = load_model(path)
    noisy = NoisyNetwork(model.network, model.input.normalise, "network")
    images = torch.rand(4, 1, 8, 8)
    scales = noisy.calibrate([images])
    ports = {name.rpartition(":")[2] for name in scales}
    assert (len(scales), ports) == (8, {"input", "output", "weight", "bias"})
    at = Channel(sensor("adc-4bit", placement="network"), OperatingPoint("ep", 0.5))
    first, again = (noisy(images, torch.arange(4), 0, at, scales) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, noisy(images, torch.arange(4), 0, None, scales))


def test_new_weights_are_torch_s_defaults(path):
    model = load_model(path)
    fresh = initialise(model, 3)
    assert fresh.sha256 == initialise(model, 3).sha256 != model.sha256
    layer = next(module for module in fresh.network.modules() if isinstance(module, nn.Linear))
    bound = 1 / np.sqrt(8)
    assert 0.7 * bound < float(layer.weight.detach().abs().max()) <= bound
    swapped = swapped_model(model, swap_activation(model, "swish(beta=2)"))
    again = initialise(swapped, 3)
    assert [p.tolist() for name, p in again.network.named_parameters() if name.endswith("beta")] == [2.0]


def test_a_file_that_takes_no_images_is_refused(tmp_path):
    b = Builder(["n", 4])
    path = str(b.save(tmp_path / "net.onnx", b.add("Neg", "x"), ["n", 4]))
    assert "no batch of images" in " ".join(load_model(path).notes)
    b = Builder(["n", 4], element_type=onnx.TensorProto.INT64)
    path = str(b.save(tmp_path / "ids.onnx", b.add("Neg", "x"), ["n", 4]))
    with pytest.raises(ModelError, match="expected one input of floats, images, got x int64"):
        load_model(path)


def test_a_delivered_file_computes_what_the_model_does(path, tmp_path):
    model = load_model(path)
    swapped = swapped_model(model, swap_activation(model, "silu"))
    written = write_model(swapped, tmp_path / "out.onnx")
    assert [each.name for each in written.files] == ["out.onnx"]
    x = torch.rand(5, 1, 8, 8)
    session = onnxruntime.InferenceSession(str(tmp_path / "out.onnx"), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": x.numpy()})[0], swapped.network(x).detach(), atol=1e-6)
    with pytest.raises(UsageError, match=r"expected NAME\.onnx, since"):
        write_model(swapped, tmp_path / "out.toml")


def test_a_torch_network_is_exported_and_compared(tmp_path):
    model = load_model("digits-convnet")
    swapped = swapped_model(model, swap_activation(model, "mish"))
    written = write_model(swapped, tmp_path / "net.onnx")
    assert "differs from the network by at most" in written.checked
    again = load_model(str(tmp_path / "net.onnx"))
    assert {site.kind for site in again.network.current_sites()} == {"mish"}
    assert [each.name for each in tmp_path.iterdir()] == ["net.onnx"]


def command(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_show_lists_sites_with_nodes_and_shapes(path, capsys):
    code, out, _ = command(capsys, "models", "show", path)
    assert code == 0
    assert "/act/Relu" in out
    assert "8 × 6 × 6" in out
    assert "agrees with ONNX Runtime" in out
    code, out, _ = command(capsys, "models", "show", path, "--json")
    facts = json.loads(out)
    assert facts["sites"][0]["nodes"] == ["/act/Relu"]
    assert facts["sites"][0]["shape"][1:] == [8, 6, 6]


def test_swap_from_the_command_line(path, tmp_path, capsys):
    out_path = tmp_path / "out.onnx"
    code, out, _ = command(capsys, "models", "swap", path, "-a", "gelu", "-o", out_path)
    assert code == 0, out
    assert "gelu in place of relu at 1 site" in out
    code, out, _ = command(
        capsys, "models", "swap", out_path, "-a", "swish", "--train", "finetune", "--data", "digits", "--max-samples",
        "300", "--epochs", "1", "--lr", "0.01", "--ep", "0.5", "-o", tmp_path / "trained.onnx", "--json", "-q",
    )  # fmt: skip
    facts = json.loads(out)
    assert code == 0
    assert set(facts["accuracy"]) == {"clean", "ep=0.5"}
    assert "act.beta" in {tensor.name for tensor in onnx.load(tmp_path / "trained.onnx").graph.initializer}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("-a", "gelu", "-o", "out.txt"), 2, "expected NAME.onnx or NAME.toml"),
        (("-a", "gelu", "-o", "nowhere/out.onnx"), 2, "expected a file in a folder that exists"),
        (("-a", "gelu", "--only", "silu", "-o", "out.onnx"), 3, "expected at least one site of kind 'silu', got none"),
        (("-a", "geglu", "-o", "out.onnx"), 3, "expected a gated feed-forward block"),
        (("-a", "gelu", "--train", "finetune", "-o", "out.onnx"), 2, "--data: expected a data set"),
        (("-a", "gelu", "--to", "recipe", "-o", "out.onnx"), 2, "in agreement with --to"),
    ],
)
def test_what_cannot_be_swapped(path, tmp_path, monkeypatch, capsys, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    found, _, err = command(capsys, "models", "swap", path, *arguments)
    assert (found, message in err) == (code, True), err
    assert [each.name for each in tmp_path.iterdir()] == ["net.onnx"]


@pytest.mark.parametrize("last", ["Softmax", "LogSoftmax"])
def test_a_study_of_a_file_that_ends_in_probabilities(tmp_path, capsys, last):
    path = digits_file(tmp_path / "net.onnx", softmax=True)
    model = onnx.load(path)
    model.graph.node[-1].op_type = last
    onnx.save(model, path)
    options = ("--data", "digits", "--max-samples", "300", "--ep", "0.5", "--draws", "1", "-q", "--json")
    code, out, err = command(capsys, "audit", path, *options, "-o", tmp_path / "report")
    assert code == 0, err
    notes = " ".join(json.loads(out)["models"][0]["notes"])
    assert "on 16 images of the data it is within" in notes
    assert "the softmax at the end is left away" in notes


def test_images_of_another_shape_are_refused_in_words(tmp_path, capsys):
    path = digits_file(tmp_path / "net.onnx")
    options = ("--data", "digits", "--resize", "16x16", "--ep", "0.5", "-o", tmp_path / "report")
    code, _, err = command(capsys, "audit", path, *options)
    assert code == 3
    assert "(1, 8, 8) as the file states, got (1, 16, 16); use --resize 8x8" in err


def test_outputs_that_are_no_logits_are_refused(tmp_path):
    b = Builder(["n", 1, 8, 8])
    x = b.add("ArgMax", b.add("Flatten", "x"), axis=1)
    path = b.save(tmp_path / "net.onnx", x, ["n", 1], onnx.TensorProto.INT64)
    with pytest.raises(ModelError, match=r"expected \(n, classes\) logits, got argmax_1 int64"):
        load_model(str(path))


def test_training_options_without_training_are_refused(path, tmp_path, capsys):
    code, _, err = command(capsys, "models", "swap", path, "-a", "gelu", "--epochs", "3", "-o", tmp_path / "out.onnx")
    assert code == 2
    assert "--epochs: expected --train finetune or scratch, got no training" in err


def test_an_interrupted_swap_leaves_nothing(path, tmp_path, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("robustcheck.networks.delivering.write_model", interrupted)
    code, _, err = command(capsys, "models", "swap", path, "-a", "gelu", "-o", tmp_path / "out.onnx")
    assert (code, err) == (130, "interrupted; nothing was written\n")
    assert [each.name for each in tmp_path.iterdir()] == ["net.onnx"]
