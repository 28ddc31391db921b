"""The networks of arXiv 2402.02593 against torchvision's, torch's own layers and networks written by hand."""

import itertools
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from exports import export_network, relative
from torch import nn

from robustcheck.errors import InvalidValueError, RobustcheckError, UnknownNameError
from robustcheck.networks.architectures import ARCHITECTURES, build
from robustcheck.networks.architectures.paper import PAPER_PLACEMENT
from robustcheck.networks.architectures.paper_convnet import paper_convnet
from robustcheck.networks.architectures.resnet import resnet18
from robustcheck.networks.architectures.vgg import vgg_a
from robustcheck.networks.architectures.vit import Tokens, vit
from robustcheck.networks.loading import load_model
from robustcheck.networks.surgery import find_sites, swap_activation
from robustcheck.sensing.analog import NoisyNetwork, uncovered_layers
from robustcheck.sensing.channel import channel
from robustcheck.sensing.random import torch_seed

TINY_VIT = {"dim": 16, "heads": 2, "head_dim": 8, "mlp": 24, "depth": 2, "patch": 8}
SMALL = {
    "paper_convnet": {"width": 0.125},
    "vgg_a": {"width": 0.0625, "classes": 10, "grid": 2},
    "resnet18": {"width": 0.125, "classes": 10, "image_size": 32},
    "vit": TINY_VIT,
    "vit gated": {**TINY_VIT, "feed_forward": "gated"},
}
"""A small form of each network, all of them for 3 × 32 × 32 pixels and 10 classes."""

COUNTS = {
    (6, 3): 1_172_410,
    (6, 1): 652_474,
    (1, 1): 492_874,
    (0, 1): 30_730,
    (0, 2): 789_258,
    (0, 3): 1_707_274,
}


def small(name, **options):
    with torch_seed(3):
        return build(name.split()[0], {**SMALL[name], **options}).eval()


def images(n=3, size=32):
    with torch_seed(4):
        return torch.rand(n, 3, size, size)


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def by_hand(convolutions, linear):
    """Parameters of a cut on CIFAR-10, from the table of the paper's layers."""
    sizes = [(32, 3), (32, 48), (15, 48), (15, 96), (6, 96), (6, 192), (2, 192)]
    total = sum(9 * a * b + b for (_, a), (_, b) in itertools.pairwise(sizes[: convolutions + 1]))
    size, channels = sizes[convolutions]
    widths = [size * size * channels, *[512, 256][3 - linear :], 10]
    return total + sum(a * b + b for a, b in itertools.pairwise(widths))


@pytest.mark.parametrize("convolutions", range(7))
@pytest.mark.parametrize("linear", [1, 2, 3])
def test_cuts_of_the_convnet_have_their_parameter_counts(convolutions, linear):
    with torch.device("meta"):
        found = count(paper_convnet(convolutions=convolutions, linear=linear))
    assert found == by_hand(convolutions, linear)
    assert found == COUNTS.get((convolutions, linear), found)


def test_the_convnet_is_what_it_says():
    net = small("paper_convnet", activation="silu")
    w = dict(net.named_parameters())
    x = images()
    for i in range(1, 7):
        x = F.silu(F.conv2d(x, w[f"conv{i}.weight"], w[f"conv{i}.bias"], padding=i % 2))
        x = x if i % 2 else F.max_pool2d(x, 2)
    x = x.flatten(1)
    assert x.shape[1] == 24 * 2 * 2
    for i in (1, 2):
        x = F.silu(F.linear(x, w[f"linear{i}.weight"], w[f"linear{i}.bias"]))
    x = F.linear(x, w["output.weight"], w["output.bias"])
    torch.testing.assert_close(net(images()), x)


def test_the_convnet_drops_out_between_its_stages():
    assert [(name, layer.p) for name, layer in paper_convnet().named_children() if isinstance(layer, nn.Dropout)] == [
        ("pool2_dropout", 0.25),
        ("pool4_dropout", 0.25),
        ("linear1_dropout", 0.5),
        ("linear2_dropout", 0.5),
    ]


@pytest.mark.parametrize("name", ["paper_convnet", "vgg_a"])
def test_linear_weights_start_with_variance_two_over_inputs(name):
    options = {"width": 0.25, "grid": 1} if name == "vgg_a" else {}
    with torch_seed(0):
        layer = build(name, options).linear2
    assert layer.weight.var().item() == pytest.approx(2 / layer.in_features, rel=0.03)
    # Uniform numbers end at √3 standard deviations, normal ones do not.
    assert (layer.weight.abs().max() > 1.74 * layer.weight.std()) == (name == "vgg_a")


def test_convolutions_start_with_variance_two_over_outputs():
    with torch_seed(0):
        layers = [resnet18(width=0.5).layer2[0].conv1, vgg_a(width=0.25, grid=1).conv5]
    for layer in layers:
        assert layer.in_channels * 2 == layer.out_channels
        assert layer.weight.var().item() == pytest.approx(2 / (9 * layer.out_channels), rel=0.05)


def test_vgg_a_has_torchvisions_shapes():
    from torchvision.models import vgg11

    with torch.device("meta"):
        theirs = vgg11(num_classes=100, init_weights=False)
        for size in (32, 224):
            assert [p.shape for p in vgg_a(image_size=size).parameters()] == [p.shape for p in theirs.parameters()]
        assert count(theirs) == 129_176_036
        assert count(vgg_a(grid=1)) == 28_512_740


def test_vgg_a_gives_torchvisions_outputs():
    from torchvision.models.vgg import cfgs, make_layers

    eighths = [width if width == "M" else width // 8 for width in cfgs["A"]]
    theirs = nn.Sequential(make_layers(eighths), nn.AdaptiveAvgPool2d(7), nn.Flatten())
    theirs.extend([nn.Linear(64 * 7 * 7, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 100)])
    ours = vgg_a(width=0.125).eval()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    torch.testing.assert_close(ours(images()), theirs(images()))
    assert [layer.p for layer in ours if isinstance(layer, nn.Dropout)] == [0.5, 0.5]


def test_resnet18_takes_torchvisions_weights_and_gives_its_outputs():
    from torchvision.models import resnet18 as torchvisions

    with torch_seed(1):
        theirs = torchvisions(num_classes=10)
        for norm in theirs.modules():
            if isinstance(norm, nn.BatchNorm2d):
                nn.init.uniform_(norm.running_mean, -0.5, 0.5)
                nn.init.uniform_(norm.running_var, 0.5, 2)
                nn.init.uniform_(norm.weight, 0.5, 2)
    ours = resnet18(classes=10)
    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(ours.eval()(images(2, 64)), theirs.eval()(images(2, 64)))
    with torch.device("meta"):
        assert count(resnet18(classes=1000)) == 11_689_512


def test_resnet18_stems():
    with torch.device("meta"):
        assert "maxpool" not in dict(resnet18(image_size=95).named_children())
        assert "maxpool" in dict(resnet18(image_size=96).named_children())
        assert "maxpool" in dict(resnet18(image_size=32, stem="imagenet").named_children())
        assert count(resnet18(stem="small")) == count(resnet18()) - 64 * 3 * (49 - 9)
    features = dict(small("resnet18").named_children())
    x = features["act1"](features["bn1"](features["conv1"](images())))
    assert x.shape[2:] == (32, 32)
    for number, size in enumerate((32, 16, 8, 4), start=1):
        x = features[f"layer{number}"](x)
        assert x.shape[1:] == (8 * 2 ** (number - 1), size, size)
    one_channel_twice = resnet18(width=0.01, image_size=32, classes=10)
    assert one_channel_twice(images()).shape == (3, 10)


def test_vit_is_torchs_encoder():
    net = small("vit", classes=7)
    layers = []
    for block in net.blocks:
        layer = nn.TransformerEncoderLayer(16, 2, 24, activation=F.gelu, batch_first=True, norm_first=True).eval()
        attention, feed_forward = block.attention, block.feed_forward
        weights = {
            "self_attn.in_proj_weight": attention.qkv.weight,
            "self_attn.in_proj_bias": torch.zeros(48),
            **{f"self_attn.out_proj.{k}": v for k, v in attention.out.state_dict().items()},
            **{f"norm1.{k}": v for k, v in attention.norm.state_dict().items()},
            **{f"norm2.{k}": v for k, v in feed_forward.norm.state_dict().items()},
            **{f"linear1.{k}": v for k, v in feed_forward.up.state_dict().items()},
            **{f"linear2.{k}": v for k, v in feed_forward.down.state_dict().items()},
        }
        layer.load_state_dict(weights)
        layers.append(layer)
    # A patch is read row by row of the image, and so are its pixels, channel by channel.
    patches = F.unfold(images(), 8, stride=8).transpose(1, 2)
    x = F.linear(patches, net.patches.weight.flatten(1), net.patches.bias)
    x = torch.cat((net.tokens.class_token.expand(3, 1, 16), x), dim=1) + net.tokens.positions
    for layer in layers:
        x = layer(x)
    torch.testing.assert_close(net(images()), net.output(F.layer_norm(x[:, 0], (16,))))


def test_vit_drops_out_tokens_attention_and_both_layers_of_a_block():
    net, seen = small("vit"), []
    for path, module in net.named_modules():
        if isinstance(module, nn.Dropout):
            assert module.p == 0.5
            module.register_forward_hook(lambda *_, path=path: seen.append(path))
    net(images())
    block = ["attention.dropout", "feed_forward.up_dropout", "feed_forward.down_dropout"]
    assert seen == ["dropout", *(f"blocks.{i}.{name}" for i in range(2) for name in block)]


def test_gated_feed_forward_multiplies_two_halves():
    with torch_seed(5):
        block = small("vit gated", activation="silu").blocks[0].feed_forward
        x = torch.randn(2, 5, 16)
    a, b = block.up(F.layer_norm(x, (16,))).split(12, dim=-1)
    torch.testing.assert_close(block(x), block.down(F.silu(a) * b))


def test_vit_has_the_papers_parameter_counts():
    with torch.device("meta"):
        plain, gated, iso = vit(), vit(feed_forward="gated"), vit(feed_forward="gated", iso_parameters=True)
        assert (count(plain), count(gated)) == (6_370_826, 5_846_538)
        assert count(iso) == pytest.approx(count(plain), rel=0.005)
        for dim, mlp in [(64, 64), (64, 128), (128, 257), (512, 2048)]:
            options = {"dim": dim, "mlp": mlp, "heads": 4, "head_dim": 16, "in_channels": 1}
            near = vit(**options, feed_forward="gated", iso_parameters=True)
            assert count(near) == pytest.approx(count(vit(**options)), rel=0.005)


def test_tokens_start_normal_and_anew():
    with torch_seed(0):
        tokens = Tokens(64, 64)
    assert tokens.positions.shape == (1, 65, 64)
    assert tokens.positions.std().item() == pytest.approx(1, rel=0.05)
    before = tokens.class_token.detach().clone()
    with torch_seed(1):
        tokens.reset_parameters()
    assert not torch.equal(tokens.class_token, before)


@pytest.mark.parametrize("spec", ["geglu", "gelu"])
def test_gated_blocks_have_inner_sites_that_swap(spec):
    net = small("vit gated", activation=spec)
    paths = [f"blocks.{i}.feed_forward.act.inner" for i in range(2)]
    assert [(site.path, site.kind) for site in find_sites(net)] == [(path, "gelu") for path in paths]
    swapped = swap_activation(net, "reglu").network
    assert [(site.path, site.kind) for site in find_sites(swapped)] == [(path, "relu") for path in paths]
    torch.testing.assert_close(swapped(images()), small("vit gated", activation="relu")(images()))
    assert not torch.allclose(swapped(images()), net(images()))


SITES = {"paper_convnet": 8, "vgg_a": 10, "resnet18": 17, "vit": 2, "vit gated": 2}


@pytest.mark.parametrize("name", SMALL)
def test_each_exports_to_onnx_and_keeps_its_sites(name, tmp_path):
    net = small(name)
    kind = "gelu" if name.startswith("vit") else "relu"
    assert [site.kind for site in find_sites(net)] == [kind] * SITES[name]
    path = tmp_path / "net.onnx"
    export_network(net, images(2), path, exporter="default")
    model = load_model(str(path))
    assert [site.kind for site in find_sites(model)] == [kind] * SITES[name]
    with torch.no_grad():
        assert relative(model.network(images()), net(images())) <= 1e-5


def test_every_placement_is_of_an_architecture():
    assert set(PAPER_PLACEMENT) == {"paper_convnet", "vgg_a", "resnet18", "vit"} <= set(ARCHITECTURES)


@pytest.mark.parametrize("name", SMALL)
def test_each_trains_under_the_papers_noise(name):
    settings = PAPER_PLACEMENT[name.split()[0]]
    noise = channel("adc-4bit", ep=0.5, range="unit", **settings)
    _check_step(small(name), settings["placement"], noise)


@pytest.mark.parametrize("name", ["vit", "vit gated"])
def test_transformers_have_only_linear_layers_to_noise(name):
    net = small(name)
    assert uncovered_layers(net) == []
    _check_step(net, "network", channel("adc-4bit", ep=0.5, range="unit", placement="network"))


def _check_step(net, placement, noise):
    noisy = NoisyNetwork(net, lambda x: x, placement).train()
    with torch_seed(6):
        logits = noisy(images(8), torch.arange(8), 0, noise)
        F.cross_entropy(logits, torch.arange(8)).backward()
    assert logits.shape == (8, 10)
    for path, parameter in net.named_parameters():
        assert parameter.grad is not None, path
        assert parameter.grad.isfinite().all(), path
        assert parameter.grad.any(), path


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("paper_convnet", {"convolutions": 7}, "convolutions: expected 0 to 6, got 7"),
        ("paper_convnet", {"linear": 0}, "linear: expected 1 to 3, got 0"),
        ("paper_convnet", {"linear": 4}, "linear: expected 1 to 3, got 4"),
        ("paper_convnet", {"image_size": 8}, "a pixel left after 6 convolutions"),
        ("paper_convnet", {"width": 0.0}, "width: expected a factor"),
        ("paper_convnet", {"width": float("nan")}, "width: expected a factor"),
        ("paper_convnet", {"width": "wide"}, "options of paper_convnet"),
        ("vgg_a", {"image_size": 31}, "image_size: expected at least 32"),
        ("vgg_a", {"grid": 0}, "grid: expected 1 to 65536"),
        ("vgg_a", {"dropout": 1}, "0 <= dropout < 1"),
        ("resnet18", {"stem": "large"}, "stem: expected small or imagenet"),
        ("resnet18", {"classes": 0}, "classes: expected 1 to 65536"),
        ("vit", {"patch": 5}, "patch: expected a divisor of image_size, 32, got 5"),
        ("vit", {"feed_forward": "wide"}, "feed_forward: expected plain or gated"),
        ("vit", {"mlp": 33, "feed_forward": "gated"}, "mlp: expected an even width"),
        ("vit", {"activation": "geglu"}, "activation: expected one that is not gated"),
        ("vit", {"depth": 1.5}, "options of vit"),
        ("vit", {"activation": "gleu"}, "did you mean 'gelu'"),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises((InvalidValueError, UnknownNameError), match=message) as caught:
        build(name, options)
    assert isinstance(caught.value, RobustcheckError)


def documented(heading):
    """The rows of numbers of the first table under a heading of docs/networks.md."""
    text = (Path(__file__).parent.parent / "docs" / "networks.md").read_text(encoding="utf-8")
    lines = text.partition(f"## {heading}\n")[2].partition("\n## ")[0].splitlines()
    cells = [line.replace(",", "").strip("| ").split(" | ") for line in lines if line.startswith("|")]
    return [[int(cell) for cell in row] for row in cells if row[0].isdigit()]


def test_documented_parameter_counts():
    cuts = [[n, *(by_hand(n, m) for m in (1, 2, 3))] for n in range(7)]
    assert documented("Cuts of the ConvNet") == cuts
    kinds = [{}, {"feed_forward": "gated"}, {"feed_forward": "gated", "iso_parameters": True}]
    with torch.device("meta"):
        depths = [[depth, *(count(vit(depth=depth, **kind)) for kind in kinds)] for depth in range(1, 7)]
    assert documented("The vision transformer") == depths
    with torch.device("meta"):
        assert count(resnet18()) == 11_227_812
