"""timm's models by name: as timm builds them, its own activation modules, and its weights without pickles."""

import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from robustcheck.errors import ModelError, UnknownNameError, UsageError
from robustcheck.networks import timm_models
from robustcheck.networks.kinds import module_kind
from robustcheck.networks.loading import check_fit, initialise, load_model
from robustcheck.networks.surgery import find_sites, swap_activation
from robustcheck.sensing.random import torch_seed

timm = pytest.importorskip("timm")
NAME = "test_resnet"


def same(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_a_model_is_what_timm_builds():
    model = load_model(f"timm:{NAME}", classes=("cat", "dog", "owl"))
    with torch_seed(0):
        native = timm.create_model(NAME, num_classes=3).eval()
    x = torch.rand(2, 3, 64, 64)
    same(model.network(x), native(x))
    settings = timm.data.resolve_model_data_config(native)
    assert (model.input.shape, model.input.mean, model.input.std) == (
        settings["input_size"],
        settings["mean"],
        settings["std"],
    )
    assert (model.classes, model.origin) == (("cat", "dog", "owl"), f"timm:{NAME}")
    check_fit(model, (3, 64, 64), ("cat", "dog", "owl"))
    assert load_model(f"timm:{NAME}", classes=3).sha256 == model.sha256 != initialise(model, 2).sha256
    with torch_seed(5):
        again = timm.create_model(NAME, num_classes=3).eval()
    same(initialise(model, 5).network(x), again(x))
    assert load_model(f"timm:{NAME}").network(x).shape == (2, 1000)


def test_sites_and_swap():
    model = load_model(f"timm:{NAME}", classes=3)
    assert {site.kind for site in find_sites(model)} == {"relu"}
    x = torch.rand(2, 3, 64, 64)
    same(swap_activation(model, "relu").network(x), model.network(x))
    assert not torch.equal(swap_activation(model, "gelu").network(x), model.network(x))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("timm:test_resnot", r"unknown timm model 'test_resnot'; did you mean 'test_resnet"),
        ("timm:resnet18.a1_in1k", r"write timm:resnet18 --weights a1_in1k"),
        ("timm:hf-hub:someone/model", "unknown timm model"),
        ("timm:local-dir:somewhere", "unknown timm model"),
        ("timm:vit_small_patch14_dinov2", "a network for features, which has no classes of its own; give the number"),
    ],
)
def test_specs_that_are_no_classifiers(spec, message):
    with pytest.raises(UsageError, match=message):
        load_model(spec)


def test_a_network_for_features_gets_a_head():
    model = load_model("timm:vit_small_patch14_dinov2", classes=4)
    assert model.network.head.out_features == 4


def test_without_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UsageError, match=r"expected the package timm, found none .*pip install 'robustcheck\[timm\]'"):
        load_model(f"timm:{NAME}")


def test_what_timm_cannot_build(monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("no such\nsize")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(ModelError, match=r"timm:test_resnet: cannot be built with {'num_classes': 3}: no such size"):
        load_model(f"timm:{NAME}", classes=3)


def test_weights_from_a_file(tmp_path):
    with torch_seed(8):
        state = timm.create_model(NAME, num_classes=3).state_dict()
    save_file(state, tmp_path / "w.safetensors")
    model = load_model(f"timm:{NAME}", weights=str(tmp_path / "w.safetensors"), classes=3)
    same(model.network.state_dict()["conv1.0.weight"], state["conv1.0.weight"])
    with pytest.raises(ModelError, match="of another shape"):
        load_model(f"timm:{NAME}", weights=str(tmp_path / "w.safetensors"), classes=4)


def test_timm_s_own_weights_are_safetensors_and_fetched_only_when_allowed(tmp_path, monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    with torch_seed(8):
        state = timm.create_model(NAME).state_dict()
    save_file(state, tmp_path / "model.safetensors")
    asked = []

    def fetch(repository, file, *, local_files_only):
        asked.append((repository, file, local_files_only))
        if local_files_only:
            raise LocalEntryNotFoundError("not here")
        return str(tmp_path / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    with pytest.raises(UsageError, match=r"weights \w+ are not on this machine .*allow to fetch them with --download"):
        load_model(f"timm:{NAME}", weights="DEFAULT")
    model = load_model(f"timm:{NAME}", weights="DEFAULT", download=True)
    for name, tensor in state.items():
        same(model.network.state_dict()[name], tensor)
    assert {file for _, file, _ in asked} == {"model.safetensors"}
    with pytest.raises(UnknownNameError, match=r"weights of timm's test_resnet .*\.safetensors file"):
        load_model(f"timm:{NAME}", weights="r160_in2k")


def test_weights_that_are_pickles_only_are_refused(monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError

    def fetch(repository, file, *, local_files_only):
        raise EntryNotFoundError("404")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    with pytest.raises(UsageError, match="exist only as a pickle"):
        load_model(f"timm:{NAME}", weights="DEFAULT", download=True)
    settings = timm.models.get_pretrained_cfg(NAME)
    monkeypatch.setattr(timm.models, "get_pretrained_cfg", lambda *_, **__: replace(settings, hf_hub_id=None))
    with pytest.raises(UsageError, match="not on the Hugging Face hub as safetensors"):
        timm_models.timm_pretrained(NAME, "DEFAULT", download=False)


OWN = {
    "Swish": "silu",
    "Mish": "mish",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "HardSwish": "hardswish",
    "HardSigmoid": "hardsigmoid",
    "HardMish": "hard_mish",
    "PReLU": "prelu",
    "GELU": "gelu",
    "GELUTanh": "gelu_tanh",
    "QuickGELU": "gelu_sigmoid",
    "SwishMe": "silu",
    "MishMe": "mish",
    "HardSwishMe": "hardswish",
    "HardSigmoidMe": "hardsigmoid",
    "HardMishMe": "hard_mish",
}


def test_every_activation_module_of_timm_is_known():
    from timm.layers import activations, activations_me

    defined = {
        name: kind
        for space in (activations, activations_me)
        for name, kind in vars(space).items()
        if isinstance(kind, type) and issubclass(kind, nn.Module)
    }
    assert set(defined) == set(OWN)
    for name, kind in defined.items():
        assert module_kind(kind()) == OWN[name]


@pytest.mark.parametrize("name", [name for name, kind in OWN.items() if kind not in ("hard_mish", "prelu")])
def test_timm_s_activation_modules_compute_what_the_catalogue_says(name):
    from timm.layers import activations, activations_me

    kind = getattr(activations, name, None) or getattr(activations_me, name)
    with torch_seed(1):
        network = nn.Sequential(nn.Linear(4, 4), kind(), nn.Linear(4, 4))
    x = torch.linspace(-6, 6, 40).reshape(10, 4)
    there = swap_activation(network, "relu", only=OWN[name]).network
    back = swap_activation(there, OWN[name]).network
    torch.testing.assert_close(back(x), network(x), rtol=1e-5, atol=1e-6)
    same(swap_activation(network, OWN[name]).network(x), network(x))
