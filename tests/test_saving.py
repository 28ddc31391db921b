"""Saved models come back as they were, bit for bit, and a recipe cannot decide what code is run."""

import copy
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from robustcheck.errors import FileFormatError, ModelError, UnknownNameError, UsageError
from robustcheck.networks.loading import initialise, load_model, model_hash
from robustcheck.networks.saved import Base, read_saved
from robustcheck.networks.saving import save_model, swapped_model
from robustcheck.networks.surgery import find_sites, swap_activation
from robustcheck.sensing.random import torch_seed

FACTORY = """
import torch
import torch.nn.functional as F
from torch import nn

class Untraceable(nn.Module):
    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        x = F.gelu(self.a(x.flatten(1)))
        if x.sum() > -1e9:
            x = self.relu(self.b(x)) + self.relu(self.b(x) - 1)
        return self.c(F.silu(x))

def net():
    return Untraceable()

def other():
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
"""


def same(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=0)


def images(*shape):
    with torch_seed(5):
        return torch.rand(*shape)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "my_zoo.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("my_zoo", None)


def swapped(model, activation, **chosen):
    return swapped_model(model, swap_activation(model, activation, **chosen))


def trained(model):
    """The model with every weight and buffer moved, as training moves them."""
    network = copy.deepcopy(model.network)
    with torch_seed(9), torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor += 0.01 * torch.rand_like(tensor)
    return replace(model, network=network, sha256=model_hash(network, model.input))


@pytest.mark.parametrize(
    ("spec", "options", "activation"),
    [
        ("digits-convnet", {}, "gelu"),
        ("digits-convnet", {"mean": [0.25], "layout": "NCHW"}, "leaky_relu(0.3)"),
        ("torchvision:squeezenet1_1", {"classes": ("cat", "dog", "owl")}, "prelu"),
        ("timm:test_resnet", {"classes": 4, "channel_order": "BGR"}, "pau"),
    ],
)
def test_a_saved_model_loads_again_bit_for_bit(tmp_path, spec, options, activation):
    if spec.startswith("timm"):
        pytest.importorskip("timm")
    model = trained(swapped(load_model(spec, **options), activation))
    path = save_model(model, tmp_path / "new" / "mine.toml")
    assert {part.name for part in path.parent.iterdir()} == {"mine.toml", "mine.safetensors"}
    again = load_model(str(path))
    assert (again.input, again.classes, again.swaps, again.base) == (
        model.input,
        model.classes,
        model.swaps,
        Base(spec, len(model.classes) if model.classes and ":" in spec else options.get("classes")),
    )
    x = images(2, *model.input.shape)
    same(again.network(x), model.network(x))
    assert find_sites(again) == find_sites(model)
    first = {part.name: part.read_bytes() for part in path.parent.iterdir()}
    save_model(again, path)
    assert {part.name: part.read_bytes() for part in path.parent.iterdir()} == first


def test_the_hash_of_a_swapped_model_is_kept(tmp_path):
    model = load_model("digits-convnet")
    new = swapped(model, "gelu")
    assert new.sha256 != model.sha256
    assert (new.origin, new.swaps[0].activation, model.swaps) == ("digits-convnet", "gelu", ())
    assert load_model(str(save_model(new, tmp_path / "m.toml"))).sha256 == new.sha256


def test_several_swaps_are_made_again_in_order(tmp_path):
    model = swapped(load_model("torchvision:mobilenet_v3_small", classes=3), "gelu", only="relu")
    model = swapped(model, "prelu", where="features.1*")
    model = swapped(model, "mish", only="gelu")
    assert len(model.swaps) == 3
    again = load_model(str(save_model(model, tmp_path / "m.toml")))
    x = images(2, 3, 64, 64)
    same(again.network(x), model.network(x))
    assert {site.kind for site in find_sites(again)} == {"prelu", "mish", "hardswish"}


def test_fresh_weights_of_a_swapped_model_are_the_base_s_own(tmp_path):
    base = load_model("torchvision:squeezenet1_1", classes=3)
    model = swapped(base, "prelu")
    fresh = initialise(model, 7)
    expected = swap_activation(initialise(base, 7), "prelu").network
    for name, tensor in expected.state_dict().items():
        same(fresh.network.state_dict()[name], tensor)
    again = load_model(str(save_model(model, tmp_path / "m.toml")))
    assert initialise(again, 7).sha256 == fresh.sha256


@pytest.mark.parametrize("activation", ["mish", "prelu"])
def test_a_factory_s_network_needs_its_factory_named_untraceable_or_not(folder, activation):
    model = trained(swapped(load_model("my_zoo:net"), activation))
    path = save_model(model, folder / "m.toml")
    sys.modules.pop("my_zoo")
    with pytest.raises(UsageError, match=r"code my_zoo:net, .* does not import; .*load my_zoo:net with --weights"):
        load_model(str(path))
    assert "my_zoo" not in sys.modules
    again = load_model("my_zoo:net", weights=str(path))
    x = images(5, 1, 2, 2)
    same(again.network(x), model.network(x))
    assert {site.kind for site in find_sites(again)} == {activation}
    if activation == "prelu":
        assert sum("weight" in name and value.numel() == 1 for name, value in again.network.named_parameters()) > 2
    with pytest.raises(ModelError, match=r"expected gelu at 'gelu', got no activation; the network is not the one"):
        load_model("my_zoo:other", weights=str(path))


def test_an_exported_program_is_copied_beside(folder):
    network = load_model("my_zoo:other").network
    program = torch.export.export(network, (images(2, 1, 2, 2),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(program, folder / "net.pt2")
    model = trained(swapped(load_model("net.pt2"), "silu"))
    path = save_model(model, folder / "out" / "m.toml")
    assert {part.name for part in path.parent.iterdir()} == {"m.toml", "m.safetensors", "m.base.pt2"}
    (folder / "net.pt2").unlink()
    again = load_model(str(path))
    same(again.network(images(3, 1, 2, 2)), model.network(images(3, 1, 2, 2)))
    save_model(again, folder / "twice" / "n.toml")
    same(load_model("twice/n.toml").network(images(3, 1, 2, 2)), model.network(images(3, 1, 2, 2)))
    base = path.parent / "m.base.pt2"
    base.write_bytes(base.read_bytes() + b"x")
    with pytest.raises(ModelError, match="expected the SHA-256"):
        load_model(str(path))
    base.unlink()
    with pytest.raises(ModelError, match=r"m\.base\.pt2: expected a file, found none"):
        load_model(str(path))


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ('"digits-convnet"', '"os:getcwd"', UsageError, "code os:getcwd, which a recipe alone does not import"),
        ('"digits-convnet"', '"m.toml"', UsageError, "field base: expected a network that is built by name"),
        ('"digits-convnet"', '"../x.pt2"', FileFormatError, "field base: expected a file beside the recipe"),
        ('"digits-convnet"', '"/x.onnx"', UsageError, "field base: expected a network that is built by name"),
        ('"digits-convnet"', '"digits-convent"', UnknownNameError, "did you mean 'digits-convnet'"),
        ('"digits-mlp-absent"', '"x"', None, ""),
        ('"m.safetensors"', '"../m.safetensors"', FileFormatError, r"line \d+: field weights"),
        ('"gelu"', '"gleu"', UnknownNameError, "did you mean 'gelu'"),
        ('kinds = [\n    "relu"', 'kinds = [\n    "silu"', ModelError, "expected silu at"),
        ('kinds = [\n    "relu",', "kinds = [", FileFormatError, "expected a kind for each path"),
        ("format = ", "form = ", FileFormatError, "field form"),
        ('sha256 = "', 'sha256 = "0', FileFormatError, "field sha256"),
    ],
)
def test_recipes_that_are_wrong(tmp_path, old, new, error, message):
    path = save_model(swapped(load_model("digits-convnet"), "gelu"), tmp_path / "m.toml")
    text = path.read_text()
    if error is None:
        assert old not in text
        return
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(error, match=message):
        load_model(str(path))


def test_other_weights_than_the_recipe_s(tmp_path):
    path = save_model(swapped(load_model("digits-convnet"), "gelu"), tmp_path / "m.toml")
    save_model(trained(swapped(load_model("digits-convnet"), "gelu")), tmp_path / "n.toml")
    (tmp_path / "n.safetensors").replace(tmp_path / "m.safetensors")
    with pytest.raises(ModelError, match=f"expected the SHA-256 {read_saved(path).sha256}"):
        load_model(str(path))
    with pytest.raises(UsageError, match="the recipe names its own"):
        load_model(str(path), weights="w.safetensors")


class Doubled(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return 2 * self.network(x)


def test_a_network_that_a_recipe_cannot_state_is_an_error_and_leaves_nothing(tmp_path):
    model = load_model("digits-convnet")
    with pytest.raises(ModelError, match=r"missing: |again, got another"):
        save_model(replace(model, network=Doubled(model.network)), tmp_path / "m.toml")
    changed = copy.deepcopy(model.network)
    changed.register_forward_hook(lambda module, args, out: out + 1)
    with pytest.raises(ModelError, match=r"again, got another; it was changed in ways that a recipe cannot state"):
        save_model(replace(model, network=changed), tmp_path / "m.toml")
    broken = replace(model, network=copy.deepcopy(model.network))
    next(broken.network.parameters()).data[0] = float("nan")
    with pytest.raises(ModelError, match="expected finite weights"):
        save_model(broken, tmp_path / "m.toml")
    with pytest.raises(ModelError, match="expected a model from load_model"):
        save_model(replace(model, base=None), tmp_path / "m.toml")
    assert list(tmp_path.iterdir()) == []


def test_bad_paths(tmp_path):
    model = load_model("digits-convnet")
    for name in ("m.safetensors", "a b.toml", ".toml"):
        with pytest.raises(UsageError, match=r"expected a file NAME\.toml"):
            save_model(model, tmp_path / name)
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="expected a folder that can be written"):
        save_model(model, tmp_path / "file" / "m.toml")
    with pytest.raises(FileFormatError, match="cannot be read"):
        load_model(str(tmp_path / "none.toml"))
    assert Path(save_model(model, tmp_path / "plain.toml")).name == "plain.toml"
    assert load_model(str(tmp_path / "plain.toml")).swaps == ()
