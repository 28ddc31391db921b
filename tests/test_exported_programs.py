"""Networks from `.pt2` files: against torch's own run of the program, and every way in which such a file can be bad."""

import copy
import json
import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from robustcheck.errors import ModelError, UnsafeFileError, UsageError
from robustcheck.networks.exported.program import function_of
from robustcheck.networks.loading import check_fit, initialise, load_model
from robustcheck.networks.surgery import find_sites, swap_activation
from robustcheck.sensing.analog import uncovered_layers
from robustcheck.sensing.random import torch_seed

BATCH = ({0: torch.export.Dim.DYNAMIC},)


class Mixed(nn.Module):
    """A layer of each kind that becomes a module, a shared activation, calls, dropout, and a gate."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.act, self.up = nn.SiLU(), nn.ConvTranspose2d(4, 4, 2, 2, groups=2)
        self.norms = nn.ModuleList([nn.GroupNorm(2, 4), nn.LayerNorm(4), nn.RMSNorm(4)])
        self.slope, self.a, self.b = nn.PReLU(4), nn.Linear(4, 4), nn.Linear(4, 3, bias=False)
        self.drop, self.scale = nn.Dropout(0.5), nn.Parameter(torch.full((4,), 0.7))

    def forward(self, x):
        x = self.norms[0](self.up(self.act(self.stem(x))))
        x = self.slope(x).mean((2, 3)) * self.scale
        x = self.act(self.norms[1](x)) * torch.sigmoid(self.a(x))
        x = F.gelu(self.a(self.norms[2](x)), approximate="tanh")
        return self.b(self.drop(x))


class Activations(nn.Module):
    """Every activation that torch.export keeps as one operator, a layer after each."""

    def __init__(self, functions):
        super().__init__()
        self.functions, self.fc = functions, nn.Linear(6, 6)

    def forward(self, x):
        for function in self.functions:
            x = self.fc(function(x))
        return x


KINDS = {
    "relu": F.relu,
    "relu6": F.relu6,
    "leaky_relu(slope=0.2)": lambda x: F.leaky_relu(x, 0.2),
    "elu(alpha=0.5)": lambda x: F.elu(x, 0.5),
    "selu": F.selu,
    "celu(alpha=0.5)": lambda x: F.celu(x, 0.5),
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "mish": F.mish,
    "hardswish": F.hardswish,
    "hardtanh": F.hardtanh,
    "softplus(beta=2)": lambda x: F.softplus(x, 2),
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


def images(*shape):
    with torch_seed(5):
        return torch.randn(*shape)


def saved(network, x, path, *, dynamic=True, training=False, decomposed=False):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(network.train(training), (x,), dynamic_shapes=BATCH if dynamic else None)
        torch.export.save(program.run_decompositions() if decomposed else program, path)
    return str(path)


def same(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    with torch_seed(3):
        network = Mixed()
        network.stem(torch.randn(9, 1, 8, 8))
    path = saved(network, images(2, 1, 8, 8), tmp_path_factory.mktemp("mixed") / "mixed.pt2")
    return network.eval(), path


def test_the_program_is_the_network_that_was_exported(mixed):
    native, path = mixed
    model = load_model(path)
    assert model.input.shape == (1, 8, 8)
    for count in (1, 2, 5):
        same(model.network(images(count, 1, 8, 8)), native(images(count, 1, 8, 8)))
    assert set(model.network.state_dict()) == set(native.state_dict())
    kinds = {name: type(module) for name, module in native.named_modules() if [*module.parameters(recurse=False)]}
    found = {name: type(module) for name, module in model.network.named_modules()}
    assert {name: found[name] for name in kinds if name} == {name: kind for name, kind in kinds.items() if name}
    assert uncovered_layers(model.network) == ["(the network itself) (ExportedNetwork: scale)"]
    check_fit(model, (1, 8, 8), ("a", "b", "c"))
    assert load_model(path).sha256 == model.sha256


@pytest.mark.parametrize("training", [False, True])
def test_it_trains_as_the_network_does_batch_statistics_and_dropout_included(mixed, tmp_path, training):
    native, path = copy.deepcopy(mixed[0]), mixed[1]
    if training:  # in whichever mode it was exported
        path = saved(copy.deepcopy(native), images(2, 1, 8, 8), tmp_path / "train.pt2", training=True)
    network, x = load_model(path).network, images(6, 1, 8, 8)
    for part in (native, network):
        part.train()
        with torch_seed(7):
            part(x).square().sum().backward()
    for name, parameter in native.named_parameters():
        torch.testing.assert_close(network.get_parameter(name).grad, parameter.grad)
    for name, value in native.state_dict().items():
        same(network.state_dict()[name], value)
    same(network.eval()(x), native.eval()(x))
    same(network(x), network(x))


def test_sites_have_the_paths_of_the_network_and_swap(mixed):
    native, path = mixed
    network, x = load_model(path).network, images(4, 1, 8, 8)
    sites = {site.path: site.kind for site in find_sites(network)}
    assert sites == {
        "stem.2": "relu",
        "act": "silu",
        "slope": "prelu",
        "act_1": "silu",
        "gelu_tanh": "gelu_tanh",
    }
    swapped = swap_activation(network, "mish").network
    assert {site.kind for site in find_sites(swapped)} == {"mish"}
    reference = swap_activation(native, "mish").network
    same(swapped(x), reference(x))
    for kind in set(sites.values()):
        same(swap_activation(network, kind, only=kind).network(x), native(x))
    for again in (copy.deepcopy(swapped), pickle.loads(pickle.dumps(swapped))):
        same(again(x), swapped(x))
    learned = swap_activation(network, "pau", only="silu").network
    assert {name for name, _ in learned.named_parameters()} - {name for name, _ in network.named_parameters()} == {
        f"act{i}.{name}" for i in ("", "_1") for name in ("a", "b")
    }


@pytest.mark.parametrize("kind", KINDS)
def test_each_activation_is_recognised(kind, tmp_path):
    with torch_seed(1):
        native = Activations([KINDS[kind]])
    network = load_model(saved(native, images(2, 6), tmp_path / "a.pt2")).network
    x = images(3, 6)
    same(network(x), native(x))
    assert [site.kind for site in find_sites(network)] == [kind]
    same(swap_activation(network, "relu").network(x), native.fc(F.relu(x)))


@pytest.mark.parametrize(
    ("scales", "kind"),
    [
        ((0.5, 1, 2), "celu(alpha=0.5)"),
        ((1.6732632423543772, 1.0507009873554805, 1), "selu"),
        ((0.5, 1, 1), "elu(alpha=0.5)"),
        ((0.5, 3, 1), None),
    ],
)
def test_elu_s_operator_has_three_names(tmp_path, scales, kind):
    with torch_seed(1):
        native = Activations([lambda x: torch.ops.aten.elu.default(x, *scales)])
    network = load_model(saved(native, images(2, 6), tmp_path / "e.pt2")).network
    same(network(images(3, 6)), native(images(3, 6)))
    assert [site.kind for site in find_sites(network)] == ([kind] if kind else [])


def test_activations_written_as_products_are_sites_and_gates_are_not(tmp_path):
    def gate(x):
        return x * torch.sigmoid(x.mean(-1, keepdim=True))

    functions = [lambda x: x * torch.sigmoid(x), gate, lambda x: x * F.softplus(x).tanh(), lambda x: x.clamp(min=0)]
    with torch_seed(1):
        native = Activations(functions)
    network = load_model(saved(native, images(2, 6), tmp_path / "p.pt2")).network
    assert [site.kind for site in find_sites(network)] == ["silu", "mish", "relu"]
    x = images(3, 6)
    swapped = swap_activation(network, "gelu").network
    same(swapped(x), Activations.forward(_with(native, [F.gelu, gate, F.gelu, F.gelu]), x))
    same(copy.deepcopy(swapped)(x), swapped(x))


def _with(network, functions):
    changed = copy.deepcopy(network)
    changed.functions = functions
    return changed


def test_a_program_after_decompositions_keeps_its_layers(mixed, tmp_path):
    native, _ = mixed
    model = load_model(saved(copy.deepcopy(native), images(2, 1, 8, 8), tmp_path / "d.pt2", decomposed=True))
    torch.testing.assert_close(model.network(images(3, 1, 8, 8)), native(images(3, 1, 8, 8)))
    found = {name: type(module) for name, module in model.network.named_modules()}
    assert {found[name] for name in ("stem.0", "up", "a", "stem.1")} == {
        nn.Conv2d,
        nn.ConvTranspose2d,
        nn.Linear,
        nn.BatchNorm2d,
    }


def test_a_real_network(tmp_path):
    with torch_seed(2):
        native = torchvision.models.shufflenet_v2_x0_5(weights=None, num_classes=5)
    path = saved(native, images(2, 3, 32, 32), tmp_path / "n.pt2")
    model, x = load_model(path), images(3, 3, 32, 32)
    same(model.network(x), native(x))
    assert sum(site.calls for site in find_sites(model)) == sum(site.calls for site in find_sites(native))
    assert uncovered_layers(model.network) == []
    same(swap_activation(model, "gelu").network(x), swap_activation(native, "gelu").network(x))
    fresh = initialise(model, 4)
    assert fresh.sha256 != model.sha256 == load_model(path).sha256


@pytest.mark.parametrize("training", [False, True])
def test_a_skip_around_dropout_is_not_dropped(tmp_path, training):
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.drop = nn.Linear(6, 6), nn.Dropout(0.9)

        def forward(self, x):
            x = F.relu(self.a(x))
            return self.a(x + self.drop(x))

    native, x = Skip(), images(2, 6)
    network = load_model(saved(native, x, tmp_path / "s.pt2", training=training)).network.train()
    native.train(training)
    with torch_seed(1):
        out = network(x)
    with torch_seed(1):
        same(out, native(x))


def test_weights_of_the_native_network_fit(mixed, tmp_path):
    from safetensors.torch import save_file

    native, path = mixed
    other = {name: tensor * 1.5 for name, tensor in native.state_dict().items() if tensor.is_floating_point()}
    save_file({**native.state_dict(), **other}, tmp_path / "w.safetensors")
    model = load_model(path, weights=str(tmp_path / "w.safetensors"))
    same(model.network.state_dict()["a.weight"], other["a.weight"])


def test_tied_weights_stay_tied(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(F.relu(self.a(x)))

    network = load_model(saved(Tied(), images(2, 6), tmp_path / "t.pt2")).network
    assert network.a.weight is network.b.weight or "b.weight" not in dict(network.named_parameters())
    assert len(list(network.parameters())) == 3


def test_a_fixed_batch_and_other_shapes_are_errors_with_the_way_out(mixed, tmp_path):
    native, path = mixed
    fixed = load_model(saved(copy.deepcopy(native), images(1, 1, 8, 8), tmp_path / "one.pt2", dynamic=False))
    with pytest.raises(ModelError, match=r"exactly 1 images at once, got 2; export it again with dynamic_shapes"):
        check_fit(fixed, (1, 8, 8), ("a", "b", "c"))
    with pytest.raises(ModelError, match=r"shape \(any, 1, 8, 8\), got \(2, 1, 9, 8\); check --resize"):
        check_fit(load_model(path), (1, 9, 8), ("a", "b", "c"))
    with pytest.raises(ModelError, match="does not say how to draw its weights anew"):
        initialise(load_model(path), 1)


def rewritten(path, target, change=lambda name, data: data, extra=(), compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w", compression) as new:
        for name in old.namelist():
            data = change(name, old.read(name))
            if data is not None:
                new.writestr(name, data)
        for name, data in extra:
            new.writestr(name, data)
    return str(target)


def in_json(ending, change):
    def apply(name, data):
        if not name.endswith(ending):
            return data
        document = json.loads(data)
        change(document)
        return json.dumps(document).encode()

    return apply


class Payload:
    def __reduce__(self):
        return (Path("pwned").touch, ())


def call_instead(target):
    return in_json("model.json", lambda d: d["graph_module"]["graph"]["nodes"][0].update(target=target))


@pytest.mark.parametrize(
    "target",
    [
        "torch.hub.load",
        "torch.serialization.os.system",
        "torch.ops.aten.from_file.default",
        "torch.ops.load_library.default",
        "torch.ops.aten.relu.__class__",
        "torch.ops.aten.__class__.default",
        "torch.ops.aten.name.default",
        "_operator.methodcaller",
        "math.__loader__",
        "builtins.eval",
        "torch.ops.higher_order.cond",
        "torch.ops.mine.op.default",
    ],
)
def test_functions_that_are_not_operators_are_refused_by_name(mixed, tmp_path, target):
    assert function_of(target) is None
    path = rewritten(mixed[1], tmp_path / "x.pt2", call_instead(target))
    with pytest.raises(ModelError, match=r"expected torch's own operators only, got .*package.module:factory"):
        load_model(path)


def test_nothing_pickled_is_opened_and_nothing_written_is_evaluated(mixed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evil = pickle.dumps(Payload())

    def pickled(document):
        next(iter(document["config"].values()))["use_pickle"] = True

    with pytest.raises(UnsafeFileError, match="as a pickle, which could run code"):
        load_model(rewritten(mixed[1], tmp_path / "w.pt2", in_json("weights_config.json", pickled)))

    def expression(document):
        graph = document["graph_module"]["graph"]
        for meta in graph["tensor_values"].values():
            for size in meta["sizes"]:
                if "as_expr" in size:
                    size["as_expr"]["expr_str"] = "__import__('pathlib').Path('pwned').touch()"

    # The sample inputs are a pickle, and sizes are expressions: neither is read.
    path = rewritten(
        mixed[1],
        tmp_path / "s.pt2",
        lambda name, data: evil if "sample_inputs" in name else in_json("model.json", expression)(name, data),
        extra=[("../../outside", b"x"), ("/etc/outside", b"x")],
    )
    same(load_model(path).network(images(2, 1, 8, 8)), mixed[0](images(2, 1, 8, 8)))
    assert not (tmp_path / "pwned").exists()
    assert {part.name for part in tmp_path.iterdir()} == {"w.pt2", "s.pt2"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["schema_version"].update(major=9), "expected version 8 of torch's format, got 9"),
        (lambda d: d["graph_module"]["signature"]["input_specs"].pop(), "1 tensor|one image tensor|reads 'x'"),
        (lambda d: d["graph_module"]["graph"]["nodes"].pop(0), "before it is made"),
        (lambda d: d["graph_module"]["graph"]["nodes"][0]["inputs"].clear(), "do not fit together: ValueError.*input"),
        (lambda d: d.pop("graph_module"), "not a valid program: KeyError"),
        (lambda d: d["graph_module"]["graph"].update(nodes="none"), "not a valid program"),
    ],
)
def test_programs_that_are_malformed(mixed, tmp_path, change, message):
    with pytest.raises(ModelError, match=message):
        load_model(rewritten(mixed[1], tmp_path / "x.pt2", in_json("model.json", change)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["sizes"].__setitem__(0, {"as_int": 10**12}), "claims"),
        (lambda m: m["strides"].__setitem__(0, {"as_int": 10**9}), "cannot be read"),
        (lambda m: m.update(storage_offset={"as_int": 10**9}), "cannot be read"),
        (lambda m: m.update(dtype=99), "type number 99"),
        (lambda m: m["sizes"].__setitem__(0, {"as_int": -1}), "a size or stride is -1"),
    ],
)
def test_tensors_that_claim_too_much(mixed, tmp_path, change, message):
    def apply(document):
        change(document["config"]["stem.0.weight"]["tensor_meta"])

    with pytest.raises(ModelError, match=message):
        load_model(rewritten(mixed[1], tmp_path / "x.pt2", in_json("weights_config.json", apply)))


def test_files_of_other_kinds(mixed, tmp_path):
    with pytest.raises(ModelError, match="expected a file, found none"):
        load_model("none.pt2")
    (tmp_path / "text.pt2").write_text("no zip")
    with pytest.raises(ModelError, match="expected an exported program, got BadZipFile"):
        load_model(str(tmp_path / "text.pt2"))
    with pytest.raises(ModelError, match="expected stored entries, got compressed ones"):
        load_model(rewritten(mixed[1], tmp_path / "z.pt2", compression=zipfile.ZIP_DEFLATED))
    for name, error, message in [
        ("n/serialized_exported_program.json", ModelError, "torch 2.9 or newer, got an older one"),
        ("n/constants.pkl", UnsafeFileError, "got TorchScript; load the network that it was made from"),
        ("n/data/aotinductor/model/a.so", UnsafeFileError, "got compiled code"),
        ("n/x", ModelError, "got another zip archive"),
    ]:
        with zipfile.ZipFile(tmp_path / "o.pt2", "w") as archive:
            archive.writestr(name, b"{}")
        with pytest.raises(error, match=message):
            load_model(str(tmp_path / "o.pt2"))
    with pytest.raises(UsageError, match="TorchScript is code that cannot be changed; load the network"):
        load_model("net.torchscript")


def test_several_inputs_and_outputs_are_refused(tmp_path):
    class Two(nn.Module):
        def forward(self, x):
            return x + 1, x * 2

    with pytest.raises(ModelError, match="1 in and 2 out; export the classifier alone"):
        load_model(saved(Two(), images(2, 6), tmp_path / "two.pt2"))


def test_flipped_bytes_never_crash(mixed, tmp_path):
    whole = np.frombuffer(Path(mixed[1]).read_bytes(), dtype=np.uint8)
    generator = np.random.default_rng(0)
    path, loaded = tmp_path / "mutant.pt2", 0
    for trial in range(60):
        mutant = whole.copy()
        place = generator.integers(len(whole), size=1 + trial % 3)
        mutant[place] ^= generator.integers(1, 256, size=place.size).astype(np.uint8)
        path.write_bytes(mutant.tobytes() if trial % 4 else mutant.tobytes()[: int(place[0])])
        try:
            model = load_model(str(path))
            same(model.network(images(2, 1, 8, 8)), mixed[0](images(2, 1, 8, 8)))
            loaded += 1
        except ModelError:
            continue
    assert loaded < 60
