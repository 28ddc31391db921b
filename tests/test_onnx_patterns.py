"""Activation functions are found on graphs whatever form an exporter wrote, and gates and outputs are not."""

import io
import logging
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper
from torch import Tensor, nn

from robustcheck.networks.onnx.graph import Graph, read_graph
from robustcheck.networks.onnx.patterns import find_activations
from robustcheck.networks.surgery import find_sites

SQRT2, SCALE = 2**0.5, (2 / np.pi) ** 0.5


def export(network: nn.Module, x: Tensor, opset: int, default: bool) -> Graph:
    """The graph that one of torch's exporters writes."""
    file = io.BytesIO()
    form: dict[str, Any] = {"external_data": False, "verbose": False} if default else {"f": file}
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(network.eval(), (x,), dynamo=default, opset_version=opset, **form)
    finally:
        logging.disable(logging.NOTSET)
    return read_graph(program.model_proto if program else onnx.load_from_string(file.getvalue()))


def graph_of(body: str, opset: int = 17, inputs: str = "float[N,8] x") -> Graph:
    """A graph in ONNX's text form: `body` makes y of x, which a layer then reads."""
    text = f"""
        <ir_version: 8, opset_import: ["" : {opset}]>
        g ({inputs}) => (float[N,3] out) <float[8,3] w = {{{", ".join(["1"] * 24)}}}> {{
            {body}
            out = MatMul(y, w)
        }}"""
    model = onnx.parser.parse_model(text)
    onnx.checker.check_model(model)
    return read_graph(model)


def c(name: str, value: float) -> str:
    return f"{name} = Constant<value = float {{{value!r}}}>()\n"


def kinds(graph: Graph) -> list[str]:
    return [pattern.kind for pattern in find_activations(graph)]


class Called(nn.Module):
    """A function as a module of its own."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


MODULES: list[nn.Module] = [
    *(nn.ReLU(), nn.LeakyReLU(0.2), nn.PReLU(), nn.ELU(), nn.ELU(0.3), nn.SELU(), nn.GELU(), nn.GELU("tanh")),
    *(nn.SiLU(), nn.Mish(), nn.Hardswish(), nn.Softplus(), nn.Softplus(2.0), nn.ReLU6(), nn.Tanh(), nn.Hardtanh()),
    *(nn.Hardsigmoid(), nn.Softsign(), nn.Sigmoid(), nn.Threshold(0, 0)),
]
CALLS: list[Callable[[Tensor], Tensor]] = [
    lambda x: x.clamp(min=0),
    lambda x: x.clamp(0, 6),
    lambda x: x * torch.sigmoid(x),
    lambda x: x * torch.sigmoid(1.702 * x),
    lambda x: torch.sigmoid(1.5 * x) * x,
    lambda x: x * (F.relu6(x + 3) / 6),
    lambda x: x * F.hardsigmoid(x),
    lambda x: x * torch.tanh(x),
    lambda x: x * torch.tanh(F.softplus(x)),
    lambda x: torch.clamp(x, -2, 2),
    lambda x: F.relu(F.relu(x)),
]


class Every(nn.Module):
    """Every form, each after a layer of its own, then a final layer."""

    def __init__(self, forms: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in forms)
        self.forms = nn.ModuleList(forms)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        for layer, form in zip(self.layers, self.forms, strict=True):
            x = form(layer(x))
        return self.head(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("opset", "default"), [(9, False), (11, False), (14, False), (20, False), (18, True), (20, True)]
)
def test_every_form_is_found_as_a_trace_of_the_source_finds_it(opset: int, default: bool) -> None:
    # CELU has no operator before opset 12.
    modules = [*MODULES, *([nn.CELU(), nn.CELU(2.0), nn.Softplus(2.0, 5.0)] if default else [])]
    # The default exporter merges the last two ReLUs itself.
    network = Every([*modules, *map(Called, CALLS[:-1] if default else CALLS)])
    expected = [site.kind for site in find_sites(network) for _ in range(max(site.calls, 1))]
    found = kinds(export(network, torch.randn(2, 4), opset, default))
    assert found == expected


WRITTEN: dict[str, tuple[str, str]] = {
    "gelu, x/√2, ½ last": (
        "gelu",
        c("r", SQRT2) + c("o", 1.0) + c("h", 0.5) + "a=Div(x,r) b=Erf(a) d=Add(b,o) e=Mul(x,d) y=Mul(e,h)",
    ),
    "gelu, ½ on x, x·(1/√2)": (
        "gelu",
        c("r", 1 / SQRT2) + c("o", 1.0) + c("h", 0.5) + "a=Mul(r,x) b=Erf(a) d=Add(o,b) e=Mul(h,x) y=Mul(d,e)",
    ),
    "gelu, ½ + ½erf": (
        "gelu",
        c("r", 1 / SQRT2) + c("h", 0.5) + "a=Mul(x,r) b=Erf(a) d=Mul(b,h) e=Add(d,h) y=Mul(x,e)",
    ),
    "gelu, constant of half precision": (
        "gelu",
        c("r", 1.4140625) + c("o", 1.0) + c("h", 0.5) + "a=Div(x,r) b=Erf(a) d=Add(b,o) e=Mul(x,d) y=Mul(e,h)",
    ),
    "gelu, constants of several axes": (
        "gelu",
        "r = Constant<value = float[1] {1.4142135}>() o = Constant<value = float[1,1] {1}>() " + c("h", 0.5) + ""
        "a=Div(x,r) b=Erf(a) d=Add(b,o) e=Mul(x,d) y=Mul(e,h)",
    ),
    "gelu_tanh, Pow": (
        "gelu_tanh",
        c("t", 3.0) + c("k", 0.044715) + c("s", SCALE) + c("o", 1.0) + c("h", 0.5) + "p=Pow(x,t) q=Mul(p,k) a=Add(x,q)"
        " b=Mul(a,s) d=Tanh(b) e=Add(d,o) f=Mul(e,h) y=Mul(f,x)",
    ),
    "gelu_tanh, x·(1 + kx²)": (
        "gelu_tanh",
        c("k", 0.0447) + c("s", SCALE) + c("o", 1.0) + c("h", 0.5) + "p=Mul(x,x) q=Mul(k,p) a=Add(q,o) b=Mul(x,a)"
        " g=Mul(s,b) d=Tanh(g) e=Add(o,d) f=Mul(h,x) y=Mul(f,e)",
    ),
    "gelu_tanh, integer power": (
        "gelu_tanh",
        "t = Constant<value = int64 {3}>() " + c("k", 0.044715) + c("s", SCALE) + c("o", 1.0) + c("h", 0.5) + ""
        "p=Pow(x,t) q=Mul(p,k) a=Add(x,q) b=Mul(a,s) d=Tanh(b) e=Add(d,o) f=Mul(e,x) y=Mul(f,h)",
    ),
    "silu as a quotient": ("silu", c("o", 1.0) + "a=Neg(x) b=Exp(a) d=Add(b,o) y=Div(x,d)"),
    "hardswish, Paddle": (
        "hardswish",
        c("t", 3.0) + c("z", 0.0) + c("s", 6.0) + "a=Add(x,t) b=Clip(a,z,s) d=Mul(x,b) y=Div(d,s)",
    ),
    "hardswish, divided first": (
        "hardswish",
        c("t", 3.0) + c("z", 0.0) + c("s", 6.0) + "a=Add(t,x) b=Clip(a,z,s) d=Div(b,s) y=Mul(d,x)",
    ),
    "hardswish, times 0.1667": (
        "hardswish",
        c("t", 3.0) + c("z", 0.0) + c("s", 6.0) + c("i", 0.1667) + "a=Add(x,t) b=Clip(a,z,s) d=Mul(b,i) y=Mul(d,x)",
    ),
    "hardsigmoid": ("hardsigmoid", c("t", 3.0) + c("z", 0.0) + c("s", 6.0) + "a=Add(x,t) b=Clip(a,z,s) y=Div(b,s)"),
    "softplus by logarithm": ("softplus", c("o", 1.0) + "a=Exp(x) b=Add(a,o) y=Log(b)"),
    "softplus, beta and threshold": (
        "softplus(beta=2, threshold=5)",
        c("b", 2.0) + c("t", 5.0) + "a=Mul(x,b) s=Softplus(a) d=Div(s,b) e=Greater(a,t) y=Where(e,x,d)",
    ),
    "softplus, torch's threshold": (
        "softplus",
        c("t", 20.0) + "s=Softplus(x) e=Greater(x,t) y=Where(e,x,s)",
    ),
    "hard_mish": (
        "hard_mish",
        c("t", 2.0) + c("z", 0.0) + c("h", 0.5) + "q=Mul(x,h) a=Add(x,t) b=Clip(a,z,t) y=Mul(q,b)",
    ),
    "mish with a threshold": (
        "mish",
        c("t", 20.0) + "s=Softplus(x) e=Greater(x,t) d=Where(e,x,s) f=Tanh(d) y=Mul(f,x)",
    ),
    "relu as maximum": ("relu", c("z", 0.0) + "y=Max(z,x)"),
    "relu as maximum with zeros like": ("relu", "s=Shape(x) z=ConstantOfShape(s) y=Max(x,z)"),
    "relu as Where": ("relu", c("z", 0.0) + "e=LessOrEqual(x,z) y=Where(e,z,x)"),
    "relu of a threshold": ("relu", "y=ThresholdedRelu<alpha=0.0>(x)"),
    "relu6 as minimum": ("relu6", c("s", 6.0) + "a=Relu(x) y=Min(a,s)"),
    "relu6 by Cast constants": (
        "relu6",
        "i = Constant<value = float16 {17920}>() " + c("z", 0.0) + "s=Cast<to=1>(i) y=Clip(x,z,s)",
    ),
    "leaky, two halves": ("leaky_relu(slope=0.1)", c("k", 0.1) + "a=Relu(x) n=Neg(x) b=Relu(n) d=Mul(b,k) y=Sub(a,d)"),
    "leaky, maximum": ("leaky_relu(slope=0.3)", c("k", 0.3) + "a=Mul(x,k) y=Max(a,x)"),
    "leaky, Where": ("leaky_relu(slope=0.05)", c("k", 0.05) + c("z", 0.0) + "e=Greater(x,z) a=Mul(x,k) y=Where(e,x,a)"),
    "elu, exponential": (
        "elu(alpha=0.5)",
        c("k", 0.5) + c("o", 1.0) + c("z", 0.0) + "a=Exp(x) b=Sub(a,o) d=Mul(b,k) e=Greater(x,z) y=Where(e,x,d)",
    ),
    "selu by ELU": ("selu", c("g", 1.0507009873554805) + "a=Elu<alpha=1.6732632423543772>(x) y=Mul(a,g)"),
    "celu by ELU": ("celu(alpha=2)", c("k", 2.0) + "a=Div(x,k) b=Elu(a) y=Mul(b,k)"),
    "lisht": ("lisht", "a=Tanh(x) y=Mul(a,x)"),
    "a type cast around": ("sigmoid", "a=Cast<to=11>(x) b=Sigmoid(a) y=Cast<to=1>(b)"),
}


@pytest.mark.parametrize("form", WRITTEN)
def test_forms_of_other_exporters_are_one_pattern(form: str) -> None:
    kind, body = WRITTEN[form]
    (pattern,) = find_activations(graph_of(body))
    assert pattern.kind == kind
    if form != "a type cast around":
        assert (pattern.input, pattern.output) == ("x", "y")
        assert [node.index for node in pattern.nodes] == sorted(node.index for node in pattern.nodes)
        assert not {"Constant", "Shape", "ConstantOfShape"} & {node.op for node in pattern.nodes}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_constants_of_half_precision_are_recognised(dtype: str) -> None:
    kind = TensorProto.FLOAT16 if dtype == "float16" else TensorProto.BFLOAT16
    numbers = {"t": 3.0, "k": 0.044715, "s": SCALE, "o": 1.0, "h": 0.5, "l": 0.2, "b": 1.702}
    constants = [helper.make_tensor(name, kind, [], [value]) for name, value in numbers.items()]
    steps = [
        *("Pow x t p", "Mul p k q", "Add x q a", "Mul a s b1", "Tanh b1 d", "Add d o e", "Mul e h f", "Mul f x y1"),
        *("MatMul y1 w y2", "Mul y2 l m", "Max y2 m y3", "MatMul y3 w y4", "Mul y4 b n", "Sigmoid n r", "Mul y4 r y5"),
        "MatMul y5 w out",
    ]
    nodes = [helper.make_node(op, inputs, [output]) for op, *inputs, output in (step.split() for step in steps)]
    ends = [helper.make_tensor_value_info(name, kind, [2, 2]) for name in ("x", "out")]
    weight = helper.make_tensor("w", kind, [2, 2], [1.0] * 4)
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [*constants, weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    assert kinds(read_graph(model)) == ["gelu_tanh", "leaky_relu(slope=0.2)", "gelu_sigmoid"]


NOT_SITES = {
    "gated linear unit": "a, b = Split<axis=1>(x2) s=Sigmoid(b) y=Mul(a,s)",
    "squeeze and excite": "m=ReduceMean<axes=[1]>(x) s=Sigmoid(m) y=Mul(x,s)",
    "squeeze and excite, hard": "m=ReduceMean<axes=[1]>(x) s=HardSigmoid<alpha=0.16666667>(m) y=Mul(x,s)",
    "squeeze and excite, reshaped": "m=ReduceMean<axes=[1]>(x) s=Sigmoid(m) f=Flatten(s) y=Mul(x,f)",
    "hard squeeze and excite, written out": c("t", 3.0) + c("z", 0.0) + c("k", 6.0) + "m=ReduceMean<axes=[1]>(x)"
    " a=Add(m,t) b=Clip(a,z,k) d=Div(b,k) y=Mul(x,d)",
    "hard squeeze and excite, divided last": c("t", 3.0) + c("z", 0.0) + c("k", 6.0) + "a=Add(v,t) b=Clip(a,z,k)"
    " d=Mul(x,b) y=Div(d,k)",
    "gate of another value": "s=Sigmoid(v) y=Mul(x,s)",
    "tanh gate": "a=Tanh(x) s=Sigmoid(v) y=Mul(a,s)",
    "update gate": c("o", 1.0) + "s=Sigmoid(v) r=Sub(o,s) y=Mul(x,r)",
    "attention": "s=Softmax(x) y=Mul(s,v)",
    "a hard sigmoid of other numbers": "y=HardSigmoid<alpha=0.2>(x)",
    "a clamp": c("l", -2.0) + c("u", 2.0) + "y=Clip(x,l,u)",
    "an absolute value": "y=Abs(x)",
    "a guard of a division": c("e", 1e-12) + "n=ReduceL2<axes=[1]>(x) m=Clip(n,e) y=Div(x,m)",
    "a guard of a division, by a maximum": c("e", 1e-6) + "n=ReduceL2<axes=[1]>(x) m=Max(n,e) y=Div(x,m)",
    "a logarithm of a sigmoid": "s=Sigmoid(x) y=Log(s)",
}


@pytest.mark.parametrize("case", NOT_SITES)
def test_gates_and_other_functions_are_not_sites(case: str) -> None:
    assert kinds(graph_of(NOT_SITES[case], 13, "float[N,8] x, float[N,16] x2, float[N,8] v")) == []


@pytest.mark.parametrize("tail", ["", "Reshape", "Softmax", "Squeeze", "Identity", "Concat"])
def test_what_makes_the_output_is_not_a_site(tail: str) -> None:
    after = {"": "", "Reshape": "q=Reshape(p,s)", "Concat": "q=Concat<axis=1>(p,x)"}.get(tail, f"q={tail}(p)")
    end = "q" if after else "p"
    for op in ("Sigmoid", "Tanh", "Softplus", "Softsign"):
        text = f"""<ir_version: 8, opset_import: ["" : 17]>
            g (float[2,1,8] x, int64[2] s) => (float[M] {end}) {{ a=Relu(x) p={op}(a) {after} }}"""
        assert kinds(read_graph(onnx.parser.parse_model(text))) == ["relu"]


def test_a_relu_that_makes_the_output_is_a_site_as_in_torch() -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) { y = Relu(x) }'
    assert kinds(read_graph(onnx.parser.parse_model(text))) == ["relu"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("s=Sigmoid(x) m=Mul(x,s) y=Add(m,s)", []),
        ("s=Softplus(x) t=Tanh(s) m=Mul(x,t) y=Add(m,s)", ["softplus"]),
        (c("z", 0.0) + c("k", 6.0) + "a=Relu(x) b=Min(a,k) y=Add(a,b)", ["relu"]),
    ],
)
def test_a_value_that_is_read_elsewhere_is_inside_of_no_pattern(body: str, expected: list[str]) -> None:
    assert kinds(graph_of(body)) == expected


def test_an_inner_value_that_leaves_the_graph_is_inside_of_no_pattern() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
        g (float[2,2] x) => (float[2,2] a, float[2,2] out) { a=Relu(x) k = Constant<value = float {6}>()
        b=Min(a,k) out=MatMul(b,x) }"""
    assert kinds(read_graph(onnx.parser.parse_model(text))) == ["relu"]


def test_two_in_a_row_stay_two() -> None:
    assert kinds(graph_of("a=Relu(x) b=Relu(a) d=Elu(b) e=LeakyRelu<alpha=0.1>(d) y=LeakyRelu<alpha=0.1>(e)")) == [
        *("relu", "relu", "elu", "leaky_relu(slope=0.1)", "leaky_relu(slope=0.1)")
    ]


def test_scaling_around_an_activation_is_no_part_of_it() -> None:
    graph = graph_of(c("k", 2.0) + c("h", 0.5) + "a=Mul(x,k) b=Relu(a) y=Mul(b,h)")
    (pattern,) = find_activations(graph)
    assert [node.op for node in pattern.nodes] == ["Relu"]


def test_a_swish_whose_factor_is_a_weight_says_its_value() -> None:
    assert kinds(graph_of(c("b", 1.3) + "a=Mul(b,x) s=Sigmoid(a) y=Mul(s,x)")) == ["swish(beta=1.3)"]


def test_the_slope_of_a_prelu_is_named() -> None:
    slope = "k = Constant<value = float[8] {0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8}>() "
    (native,) = find_activations(graph_of(slope + "y=PRelu(x,k)"))
    assert (native.kind, native.slope) == ("prelu", "k")
    halves = "a=Relu(x) n=Neg(x) b=Relu(n) m=Neg(k) d=Mul(m,b) y=Add(a,d)"
    (keras,) = find_activations(graph_of(slope + halves))
    assert (keras.kind, keras.slope, len(keras.nodes)) == ("prelu", "k", 6)


def test_arithmetic_on_shapes_is_no_activation() -> None:
    body = """s=Shape(x) i = Constant<value = int64 {0}>() n=Gather(s,i) m=Max(n,i) u = Constant<value = int64[1] {0}>()
        a=Unsqueeze(m,u) e = Constant<value = int64[1] {8}>() t=Concat<axis=0>(a,e) y=Reshape(x,t)"""
    assert kinds(graph_of(body)) == []


def test_floats_that_are_made_of_shapes_are_no_activation() -> None:
    body = """s=Shape(x) f=Cast<to=1>(s) g=Relu(f) i=Cast<to=7>(g) y=Reshape(x,i)"""
    assert kinds(graph_of(body)) == []


def test_branches_are_searched_and_their_paths_begin_with_the_node() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
        g (float[2,2] x, bool c) => (float[2,2] out) {
            y = If (c) <then_branch = t () => (float[2,2] p) { a = MatMul(x,x) p = Relu(a) },
                        else_branch = e () => (float[2,2] q) { b = MatMul(x,x) d = Sigmoid(b)
                                                               q = Mul(b,d) }>
            out = MatMul(y,x)
        }"""
    graph = read_graph(onnx.parser.parse_model(text))
    found = find_activations(graph)
    assert [(pattern.kind, pattern.graph is graph) for pattern in found] == [("relu", False), ("silu", False)]
    assert [pattern.path for pattern in found] == ["if_y.then_branch.relu", "if_y.else_branch.silu"]


def test_a_sigmoid_that_a_branch_hands_to_the_output_is_not_a_site() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
        g (float[2,2] x, bool c) => (float[2,2] y) {
            y = If (c) <then_branch = t () => (float[2,2] p) { a = Elu(x) p = Sigmoid(a) },
                        else_branch = e () => (float[2,2] q) { q = Identity(x) }>
        }"""
    assert kinds(read_graph(onnx.parser.parse_model(text))) == ["elu"]


class Cell(nn.Module):
    """One step of an LSTM in plain operations."""

    def __init__(self) -> None:
        super().__init__()
        self.gates, self.out = nn.Linear(8, 16), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = c = torch.zeros(x.shape[0], 4)
        for step in range(2):
            i, f, g, o = self.gates(torch.cat([x[:, step], h], 1)).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return torch.sigmoid(self.out(F.relu(h)))


class Attention(nn.Module):
    """Attention, a gated feed-forward block, and a hidden tanh."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.wide = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 32)
        self.narrow, self.norm, self.head = nn.Linear(16, 8), nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x + self.attention(x, x, x)[0])
        gate, value = self.wide(x).chunk(2, -1)
        x = self.narrow(F.silu(gate) * value)
        x = x + F.glu(torch.cat([x, x], -1))
        return self.head(torch.tanh(x).mean(1)).softmax(-1)  # type: ignore[no-any-return]


class Squeeze(nn.Module):
    """Convolutions with a squeeze-and-excite block, and an output between 0 and 1."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.act = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Hardswish()
        self.down, self.up, self.head = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1), nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.bn(self.conv(x)))
        s = self.up(F.relu(self.down(x.mean((2, 3), keepdim=True))))
        x = x * F.hardsigmoid(s)
        x = F.relu6(x * torch.sigmoid(s))
        return torch.sigmoid(self.head(x)).flatten(1)


SHAPES: dict[type[nn.Module], tuple[int, ...]] = {Cell: (2, 2, 4), Attention: (2, 5, 8), Squeeze: (2, 3, 6, 6)}


@pytest.mark.parametrize("default", [False, True])
@pytest.mark.parametrize("network", SHAPES)
def test_roles_agree_with_a_trace_of_the_source(network: type[nn.Module], default: bool) -> None:
    source = network()
    expected = Counter(site.kind for site in find_sites(source))
    found = find_activations(export(source, torch.randn(SHAPES[network]), 18, default))
    assert Counter(pattern.kind for pattern in found) == expected
    assert {pattern.path for pattern in found} == {site.path for site in find_sites(source)}


def test_a_pattern_knows_shape_type_and_graph() -> None:
    graph = graph_of("y=Relu(x)")
    (pattern,) = find_activations(graph)
    assert (pattern.shape, pattern.element_type, pattern.graph) == (("N", 8), TensorProto.FLOAT, graph)
