"""Loading models, and every way in which a model, its weights or its input can be wrong."""

import json
import pickle
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from robustcheck import content
from robustcheck.errors import (
    FileFormatError,
    InvalidValueError,
    ModelError,
    UnknownNameError,
    UnsafeFileError,
    UsageError,
)
from robustcheck.networks import factories
from robustcheck.networks.loading import (
    InputSpec,
    Model,
    check_fit,
    initialise,
    load_model,
    model_hash,
    read_class_names,
    spec_kind,
)
from robustcheck.networks.recipes import Recipe, RecipeInput, load_recipe, read_recipe, write_recipe
from robustcheck.sensing.random import torch_seed

FACTORY = """
import torch
from torch import nn

def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))

class Zoo:
    @staticmethod
    def net():
        return net()

def fails():
    raise RuntimeError("no such file: weights.bin")

def leaves():
    raise SystemExit(1)

def text():
    return "a network"

def dictionary():
    class Detector(nn.Module):
        def forward(self, x):
            return {"boxes": x}
    return Detector()

def segmenter():
    return nn.Conv2d(1, 3, 1)

def broken():
    bad = net()
    bad[1].weight.data[0, 1] = float("nan")
    return bad
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "my_zoo.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("my_zoo", None)


@pytest.fixture
def state(folder):
    state = {name: torch.randn(tensor.shape) for name, tensor in load_model("my_zoo:net").network.state_dict().items()}
    save_file(state, folder / "w.safetensors")
    return state


def model_of(network, shape=(1, 2, 2), **kwargs):
    return Model(network.eval(), InputSpec(shape), kwargs.pop("classes", None), "test:net", "", **kwargs)


def test_a_factory_from_the_current_folder(folder):
    path = list(sys.path)
    model, again = load_model("my_zoo:net"), load_model("my_zoo:Zoo.net")
    assert sys.path == path
    assert not model.network.training
    assert model.input == InputSpec()
    assert (model.origin, model.classes) == ("my_zoo:net", None)
    assert model.sha256 == again.sha256
    assert model.network(torch.zeros(5, 1, 2, 2)).shape == (5, 3)


def test_random_weights_ignore_and_keep_the_global_generator(folder):
    with torch_seed(1):
        before = torch.get_rng_state()
        first = load_model("my_zoo:net").sha256
        assert torch.equal(torch.get_rng_state(), before)
    with torch_seed(2):
        assert load_model("my_zoo:net").sha256 == first


def test_initialise_draws_as_the_factory_does(folder, state):
    model = load_model("my_zoo:net", weights="w.safetensors")
    fresh = initialise(model, 11)
    with torch_seed(11):
        expected = factories.call_factory("my_zoo:net").state_dict()
    assert all(torch.equal(fresh.network.state_dict()[name], tensor) for name, tensor in expected.items())
    assert torch.equal(model.network[1].weight, state["1.weight"])
    assert fresh.sha256 != model.sha256
    without = initialise(replace(model, build=None), 11)
    assert without.sha256 == initialise(replace(model, build=None), 11).sha256 != model.sha256
    frozen = nn.ParameterList([nn.Parameter(torch.ones(2))])
    with pytest.raises(ModelError, match="does not say how to draw its weights anew"):
        initialise(model_of(frozen), 1)
    assert pickle.loads(pickle.dumps(model)).sha256 == model.sha256


@pytest.mark.parametrize("form", ["safetensors", "pt", "pth", "legacy", "nested", "parallel"])
def test_weights_arrive(folder, state, form):
    path = folder / ("w." + {"safetensors": "safetensors", "pth": "pth"}.get(form, "pt"))
    content = {"nested": {"state_dict": state, "epoch": 3}, "parallel": {f"module.{k}": v for k, v in state.items()}}
    if form != "safetensors":
        torch.save(content.get(form, state), path, _use_new_zipfile_serialization=form != "legacy")
    model = load_model("my_zoo:net", weights=str(path))
    for name, tensor in state.items():
        assert torch.equal(model.network.state_dict()[name], tensor)


def test_the_hash_covers_weights_names_architecture_and_input(folder, state):
    base = load_model("my_zoo:net", weights="w.safetensors")
    assert load_model("my_zoo:net", weights="w.safetensors").sha256 == base.sha256
    assert load_model("my_zoo:net", weights="w.safetensors", mean=[0.5]).sha256 != base.sha256
    state["1.bias"][2] += 1e-6
    save_file(state, folder / "v.safetensors")
    assert load_model("my_zoo:net", weights="v.safetensors").sha256 != base.sha256
    other = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 3))
    other.load_state_dict(base.network.state_dict())
    assert model_hash(other, base.input) != base.sha256
    leaky = [model_hash(nn.Sequential(nn.LeakyReLU(slope)), InputSpec()) for slope in (0.1, 0.2)]
    assert leaky[0] != leaky[1]


class Payload:
    def __reduce__(self):
        return (Path("pwned").touch, ())


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_is_refused_unopened(folder, state, legacy):
    torch.save({"weights": state, "extra": Payload()}, "evil.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UnsafeFileError, match=r"needs .*save_file\(network.state_dict\(\), \"weights.safetensors\"\)"):
        load_model("my_zoo:net", weights="evil.pt")
    torch.save(nn.Linear(2, 2), "whole.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UnsafeFileError, match=r"torch\.nn\.modules\.linear\.Linear"):
        load_model("my_zoo:net", weights="whole.pt")
    (folder / "bare.pth").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(ModelError):
        load_model("my_zoo:net", weights="bare.pth")
    assert not Path("pwned").exists()


def test_torchscript_is_refused_with_the_way_out(folder):
    with zipfile.ZipFile("script.pt", "w") as archive:
        archive.writestr("script/constants.pkl", b"")
        archive.writestr("script/data.pkl", b"")
    with pytest.raises(UnsafeFileError, match="TorchScript, which is code; load the network"):
        load_model("my_zoo:net", weights="script.pt")


def damage(state, how):
    wrong = dict(state)
    if how == "missing":
        del wrong["1.weight"], wrong["3.bias"]
    elif how == "unexpected":
        wrong |= {f"head.{i}": torch.ones(1) for i in range(8)}
    elif how == "shape":
        wrong["3.weight"] = torch.ones(7, 6)
    elif how == "nan":
        wrong["3.weight"] = wrong["3.weight"].clone()
        wrong["3.weight"][1, 2] = float("nan")
    elif how == "inf":
        wrong["1.bias"] = torch.full((6,), float("inf"))
    return wrong


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", r"missing: 1\.weight, 3\.bias"),
        ("unexpected", r"unexpected: head\.0, .*head\.4 and 3 more"),
        ("shape", r"3\.weight \(expected \(3, 6\), got \(7, 6\)\)"),
        ("nan", r"bad\.\w+: expected finite weights, got 1 NaN or infinite of 18 in '3\.weight'"),
        ("inf", r"6 NaN or infinite of 6 in '1\.bias'"),
    ],
)
def test_weights_that_do_not_fit(folder, state, suffix, how, message):
    path = folder / f"bad.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(damage(state, how), path)
    with pytest.raises(ModelError, match=message):
        load_model("my_zoo:net", weights=str(path))


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
@pytest.mark.parametrize("part", ["half", "empty", "garbage", "head"])
def test_damaged_weights(folder, state, suffix, part):
    path = folder / f"bad.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(state, path)
    whole = path.read_bytes()
    cut = {"half": whole[: len(whole) // 2], "empty": b"", "garbage": b"\xff\x80nonsense" * 40, "head": whole[:9]}
    path.write_bytes(cut[part])
    with pytest.raises(ModelError, match=r"bad\.(safetensors|pt)"):
        load_model("my_zoo:net", weights=str(path))


def test_flipped_bytes_never_crash(folder, state):
    save_file(state, "w.safetensors")
    torch.save(state, "w.pt")
    generator = np.random.default_rng(0)
    for name in ("w.safetensors", "w.pt"):
        whole = np.frombuffer(Path(name).read_bytes(), dtype=np.uint8)
        for trial in range(60):
            mutant = whole.copy()
            mutant[generator.integers(len(whole) if trial % 2 else 200, size=3)] ^= generator.integers(
                1, 256, size=3
            ).astype(np.uint8)
            path = folder / f"mutant{Path(name).suffix}"
            path.write_bytes(mutant.tobytes())
            try:
                model = load_model("my_zoo:net", weights=str(path))
            except ModelError:
                continue
            assert all(bool(tensor.isfinite().all()) for tensor in model.network.state_dict().values())


def test_absurd_weights(folder, state, monkeypatch):
    torch.save({**state, "1.weight": torch.zeros(1).expand(10**6, 10**6)}, "wide.pt")
    with pytest.raises(ModelError, match=r"'1\.weight' claims more numbers than the file holds"):
        load_model("my_zoo:net", weights="wide.pt")
    torch.save([1, 2], "list.pt")
    with pytest.raises(ModelError, match="expected a state dictionary, got list"):
        load_model("my_zoo:net", weights="list.pt")
    torch.save({"a": 3}, "numbers.pt")
    with pytest.raises(ModelError, match="expected tensors by name, got int for 'a'"):
        load_model("my_zoo:net", weights="numbers.pt")
    torch.save({"a": torch.eye(3).to_sparse()}, "sparse.pt")
    with pytest.raises(ModelError, match="expected dense"):
        load_model("my_zoo:net", weights="sparse.pt")
    with Path("huge.safetensors").open("wb") as file:
        file.truncate(8 * 2**30 + 1)
    with pytest.raises(ModelError, match=r"expected at most 8 GiB, got 8\.0 GiB"):
        load_model("my_zoo:net", weights="huge.safetensors")
    with zipfile.ZipFile("bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", bytes(2**20))
    monkeypatch.setattr("robustcheck.networks.weights.MAX_BYTES", 2**19)
    with pytest.raises(ModelError, match="got more once unpacked"):
        load_model("my_zoo:net", weights="bomb.pt")


def test_weights_paths(folder):
    with pytest.raises(ModelError, match=r"weights none\.pt: expected a file, found none"):
        load_model("my_zoo:net", weights="none.pt")
    with pytest.raises(UsageError, match=r"expected a \.safetensors, \.pt or \.pth file"):
        load_model("my_zoo:net", weights="w.h5")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("no_such_module_x:net", "ModuleNotFoundError"),
        ("my_zoo:nothing", "AttributeError"),
        ("my_zoo:fails", "RuntimeError: no such file: weights.bin"),
        ("my_zoo:leaves", "SystemExit"),
        ("my_zoo:text", r"expected a torch.nn.Module, got str"),
        ("my_zoo:broken", r"my_zoo:broken: expected finite weights, got 1 NaN or infinite of 24 in '1\.weight'"),
    ],
)
def test_factories_that_fail(folder, spec, message):
    with pytest.raises(ModelError, match=message):
        load_model(spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("net.torchscript", "TorchScript is code"),
        ("timm:vit_tiny_patch17_224", r"did you mean 'vit_tiny_patch16_224'"),
        ("weights.safetensors", "a weights file does not say what the network is"),
        ("dir/checkpoint.pt", "a weights file does not say what the network is"),
        ("a b:c", "expected the name of a shipped model"),
        ("../x:y", "expected the name of a shipped model"),
        ("x:", "expected the name of a shipped model"),
        ("torchvision:maskrcnn_resnet50_fpn", "image classification only for now"),
        ("torchvision:resnet19", "did you mean 'resnet18'"),
        ("digits-convent", r"did you mean 'digits-convnet'.*package.module:factory"),
    ],
)
def test_specs_that_are_no_models(spec, message):
    with pytest.raises(UsageError, match=message):
        load_model(spec)


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        (r"C:\net.onnx", ".onnx"),
        ("C:/nets/net.PT2", ".pt2"),
        ("we:ird.onnx", ".onnx"),
        (r"D:\swap\model.toml", ".toml"),
        (r"C:\net.pt", ".pt"),
        ("zoo:nets.bin", "factory"),
        ("zoo:nets.build", "factory"),
        ("torchvision:resnet18", "torchvision"),
        ("timm:net.onnx", "timm"),
        ("digits-convnet", "shipped"),
    ],
)
def test_a_colon_in_a_file_s_name_makes_it_no_factory(folder, spec, kind):
    assert spec_kind(spec)[0] == kind


@pytest.mark.parametrize("name", ["timm:net.onnx", "zoo:nets.bin"])
def test_a_file_that_is_there_is_a_file(folder, name):
    Path(name).write_bytes(b"")
    assert spec_kind(name) == (Path(name).suffix, name)


def test_torchvision_random_and_from_a_file(tmp_path):
    model = load_model("torchvision:squeezenet1_1", classes=("cat", "dog", "owl"))
    assert model.classes == ("cat", "dog", "owl")
    assert model.input == replace(factories.IMAGENET, shape=(3, 224, 224))
    assert model.network(torch.zeros(1, 3, 64, 64)).shape == (1, 3)
    save_file(initialise(model, 5).network.state_dict(), tmp_path / "w.safetensors")
    again = load_model("torchvision:squeezenet1_1", weights=str(tmp_path / "w.safetensors"), classes=3)
    assert again.sha256 == initialise(model, 5).sha256
    with pytest.raises(ModelError, match=r"of another shape: classifier\.1\.bias \(expected \(4,\), got \(3,\)\)"):
        load_model("torchvision:squeezenet1_1", weights=str(tmp_path / "w.safetensors"), classes=4)
    with pytest.raises(InvalidValueError, match="expected 2 or more, got 1"):
        load_model("torchvision:squeezenet1_1", classes=1)
    assert load_model("torchvision:inception_v3", classes=2).input.shape == (3, 299, 299)


def test_torchvision_s_own_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UsageError, match=r"are not on this machine .* --download"):
        load_model("torchvision:squeezenet1_1", weights="DEFAULT")
    with pytest.raises(UnknownNameError, match="IMAGENET1K_V1"):
        load_model("torchvision:squeezenet1_1", weights="IMAGENET1K_V7")
    url = torchvision.models.SqueezeNet1_1_Weights.DEFAULT.url
    cached = tmp_path / "hub" / "checkpoints" / Path(url).name
    cached.parent.mkdir(parents=True)
    torch.save({"features": Payload()}, cached)
    with pytest.raises(ModelError, match="not the file that torchvision names"):
        load_model("torchvision:squeezenet1_1", weights="DEFAULT")


def test_a_cached_download_with_the_right_hash_is_used(tmp_path, monkeypatch):
    import hashlib

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    entry = torchvision.models.SqueezeNet1_1_Weights.DEFAULT
    with torch_seed(4):
        network = torchvision.models.squeezenet1_1()
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(network.state_dict(), folder / "part")
    digest = hashlib.sha256((folder / "part").read_bytes()).hexdigest()[:8]
    (folder / "part").rename(folder / f"squeeze-{digest}.pth")
    fake = replace(entry.value, url=f"file:///squeeze-{digest}.pth")
    monkeypatch.setattr(entry, "_value_", fake)
    model = load_model("torchvision:squeezenet1_1", weights="DEFAULT")
    assert torch.equal(model.network.state_dict()["classifier.1.weight"], network.state_dict()["classifier.1.weight"])
    assert len(model.classes) == 1000
    assert model.input == factories.IMAGENET


def reference_normalise(images, mean, std, low, high, layout, order):
    x = images.astype(np.float64) * (high - low) + low
    if order == "BGR":
        x = x[:, ::-1]
    x = (x - np.reshape(mean, (1, -1, 1, 1))) / np.reshape(std, (1, -1, 1, 1))
    return np.moveaxis(x, 1, -1) if layout == "NHWC" else x


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("order", ["RGB", "BGR"])
@pytest.mark.parametrize("scale", [(0.0, 1.0), (0.0, 255.0), (-1.0, 1.0)])
@pytest.mark.parametrize(("mean", "std"), [((0.1, 0.2, 0.3), (0.5, 1.0, 2.0)), ((0.4,), (0.3,)), ((0.0,), (1.0,))])
def test_normalise_agrees_with_numpy(layout, order, scale, mean, std):
    images = np.random.default_rng(0).random((2, 3, 4, 5), dtype=np.float32)
    spec = InputSpec((3, 4, 5), mean, std, scale, layout, order)
    tensor = torch.from_numpy(images).requires_grad_()
    out = spec.normalise(tensor)
    expected = reference_normalise(images, mean, std, *scale, layout, order)
    np.testing.assert_allclose(out.detach().numpy(), expected, rtol=2e-6, atol=2e-5)
    assert out.dtype == torch.float32
    out.sum().backward()
    slope = (scale[1] - scale[0]) / np.broadcast_to(std, 3)
    slope = slope[::-1] if order == "BGR" else slope
    np.testing.assert_allclose(tensor.grad[0, :, 0, 0].numpy(), slope, rtol=1e-6)
    json.dumps(spec.as_dict())
    assert InputSpec(**{k: tuple(v) if isinstance(v, list) else v for k, v in spec.as_dict().items()}) == spec


def test_input_options_reach_the_model(folder):
    options = {"mean": [1, 2, 3], "std": [4], "input_range": (0, 255), "layout": "NHWC", "channel_order": "BGR"}
    given = load_model("my_zoo:net", **options).input
    assert given == InputSpec(None, (1, 2, 3), (4,), (0, 255), "NHWC", "BGR")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"std": [0.0]}, "std: expected positive"),
        ({"std": []}, "std: expected positive"),
        ({"mean": []}, "mean and std"),
        ({"mean": [float("nan")]}, "finite"),
        ({"mean": [1, 2], "std": [1, 2, 3]}, "one number, or one a channel, got '2 and 3 numbers'"),
        ({"input_range": (1, 1)}, "low < high"),
        ({"layout": "CHWN"}, "NCHW or NHWC"),
        ({"channel_order": "GBR"}, "RGB or BGR"),
    ],
)
def test_bad_input_options(folder, options, message):
    with pytest.raises(InvalidValueError, match=message):
        load_model("my_zoo:net", **options)
    with pytest.raises(InvalidValueError, match="one a channel"):
        InputSpec((1, 8, 8), mean=(0.1, 0.2, 0.3))


def test_a_device_that_is_not_there(folder):
    with pytest.raises(ModelError, match="cannot be put on device"):
        load_model("my_zoo:net", device="nonsense")


def test_check_fit_accepts_what_fits(folder):
    model = load_model("my_zoo:net", classes=("a", "b", "c"))
    model.network[2].train()
    check_fit(model, (1, 2, 2), ("a", "b", "c"))
    assert [module.training for module in model.network.modules()] == [False, False, False, True, False]


@pytest.mark.parametrize(
    ("make", "shape", "classes", "message"),
    [
        (
            lambda: nn.Conv2d(3, 3, 1),
            (1, 8, 8),
            3,
            r"images of shape \(1, 8, 8\).*the data is grey: use data in colour",
        ),
        (lambda: nn.Linear(5, 3), (1, 2, 2), 3, r"RuntimeError.*check --resize"),
        (lambda: nn.Conv2d(1, 3, 1), (1, 8, 8), 3, r"got \(2, 3, 8, 8\).*image classification only for now"),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 3)),
            (1, 2, 2),
            10,
            "10 classes as in the data, got 3 logits",
        ),
        (lambda: nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (8, 1))), (1, 2, 2), 3, r"got \(8, 1\)"),
    ],
)
def test_check_fit_says_what_is_wrong(make, shape, classes, message):
    with pytest.raises(ModelError, match=message):
        check_fit(model_of(make(), None), shape, tuple(map(str, range(classes))))


def test_check_fit_of_other_tasks_colours_and_orders(folder):
    with pytest.raises(ModelError, match="got dict; robustcheck does image classification only for now"):
        check_fit(load_model("my_zoo:dictionary"), (1, 2, 2), ("a", "b"))
    with pytest.raises(ModelError, match="image classification only"):
        check_fit(load_model("my_zoo:segmenter"), (1, 2, 2), ("a", "b", "c"))
    grey = model_of(nn.Sequential(nn.Conv2d(1, 3, 2), nn.Flatten()), (1, 2, 2))
    with pytest.raises(ModelError, match="the network is for grey images"):
        check_fit(grey, (3, 2, 2), ("a", "b", "c"))
    rgb = load_model("torchvision:squeezenet1_1", classes=3)
    with pytest.raises(ModelError, match="the data is grey"):
        check_fit(rgb, (1, 64, 64), ("a", "b", "c"))
    named = load_model("my_zoo:net", classes=("a", "b", "c"))
    with pytest.raises(ModelError, match="model's order a, b, c, got b, a, c"):
        check_fit(named, (1, 2, 2), ("b", "a", "c"))
    with pytest.raises(ModelError, match="3 channels for the order BGR, got 1"):
        check_fit(load_model("my_zoo:net", channel_order="BGR"), (1, 2, 2), ("a", "b", "c"))


def test_class_names(tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes("\ufeffcat\r\ndog \nœuf\n\n\n".encode())
    assert read_class_names(path) == ("cat", "dog", "œuf")
    for text, message in [
        ("cat\n\ndog", "line 2: expected the name of a class, got an empty line"),
        ("cat\ndog\ncat", "line 3: 'cat' stands on line 1 already"),
        ("cat\n", "two or more class names, one a line, got 1"),
        ("", "got 0"),
    ]:
        path.write_text(text)
        with pytest.raises(FileFormatError, match=message):
            read_class_names(path)
    path.write_bytes(b"\xff\xfe\x00cat")
    with pytest.raises(FileFormatError, match="cannot be read as text"):
        read_class_names(path)
    with pytest.raises(FileFormatError, match="cannot be read"):
        read_class_names(tmp_path / "none.txt")


RECIPE = Recipe(
    name="tiny",
    title="A tiny network",
    architecture="mlp",
    data="digits",
    classes=("a", "b", "c"),
    accuracy=0.5,
    weights="tiny.safetensors",
    options={"in_channels": 1, "image_size": 2, "classes": 3, "hidden": [5]},
    input=RecipeInput(shape=(1, 2, 2), mean=(0.3,)),
    training={"seed": 7, "learning_rate": 1e-3, "train_eps": [0.1, 0.2]},
)


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    monkeypatch.setattr(content, "shelf", lambda name: tmp_path)
    with torch_seed(9):
        network = RECIPE.build()
    return tmp_path, network, write_recipe(tmp_path, RECIPE, network)


def test_a_recipe_comes_back_as_written(shelf, tmp_path):
    folder, network, written = shelf
    assert load_recipe("tiny") == written
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(first) == {"tiny.toml", "tiny.safetensors"}
    write_recipe(folder, RECIPE, network)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first
    model = load_model("tiny")
    assert (model.classes, model.input) == (("a", "b", "c"), InputSpec((1, 2, 2), mean=(0.3,)))
    x = torch.rand(2, 1, 2, 2)
    assert torch.equal(model.network(x), network.eval()(x))
    with torch_seed(7):
        assert torch.equal(initialise(model, 7).network.linear1.weight, RECIPE.build().linear1.weight)
    save_file({name: tensor * 2 for name, tensor in network.state_dict().items()}, folder / "own.safetensors")
    own = load_model("tiny", weights=str(folder / "own.safetensors"))
    assert torch.equal(own.network.linear1.weight, 2 * network.linear1.weight)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('title = "A tiny network"', "title = ", r"tiny\.toml: not valid TOML: .*line 2"),
        ("accuracy = 0.5", "accuracy = 1.5", r"tiny\.toml, line \d+: field accuracy: .*got 1\.5"),
        ("accuracy = 0.5", 'colour = "red"', r"field colour: unknown field"),
        ('"tiny.safetensors"', '"../tiny.safetensors"', r"line \d+: field weights"),
        ('"tiny.safetensors"', '"/etc/x.safetensors"', r"line \d+: field weights"),
        ('"mlp"', '"lenet"', r"field architecture: expected convnet or mlp or .*, got 'lenet'"),
        ("shape = [", 'shape = ["x", ', r"field input.shape"),
    ],
)
def test_bad_recipes_name_file_line_and_field(shelf, old, new, message):
    path = shelf[0] / "tiny.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(FileFormatError, match=message):
        load_model("tiny")


def test_recipes_whose_weights_are_missing_or_others(shelf):
    folder, network, _ = shelf
    other = {name: tensor + 1 for name, tensor in network.state_dict().items()}
    save_file(other, folder / "tiny.safetensors")
    with pytest.raises(ModelError, match="expected the SHA-256"):
        load_model("tiny")
    (folder / "tiny.safetensors").unlink()
    with pytest.raises(ModelError, match="expected a file, found none"):
        load_model("tiny")
    with pytest.raises(FileFormatError, match="cannot be read"):
        read_recipe(folder / "absent.toml")
    with pytest.raises(ModelError, match="can be written"):
        write_recipe(folder / "nowhere", RECIPE, network)


def test_every_shipped_model_loads_and_fits_its_own_classes():
    for name in content.model_names():
        model = load_model(name)
        check_fit(model, model.input.shape, model.classes or tuple("0123456789"))
        assert initialise(model, 3).sha256 != model.sha256
