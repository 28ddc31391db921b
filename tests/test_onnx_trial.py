"""Running ONNX files in a child: made-up inputs, values between nodes, limits, and what comes of crashes."""

import hashlib
import os
import signal
import sys
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx.reference
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from robustcheck.errors import InvalidValueError, ModelError
from robustcheck.networks.onnx import children
from robustcheck.networks.onnx.children import started
from robustcheck.networks.onnx.examples import Input, made_up
from robustcheck.networks.onnx.reading import read_onnx
from robustcheck.networks.onnx.trial import Answer, Request, Trial, check_file, check_many, run_trial

FLOAT = TensorProto.FLOAT
RNG = np.random.default_rng(0)


def network(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, list[int | str]]],
    outputs: dict[str, int],
    weights: dict[str, np.ndarray] | None = None,
) -> ModelProto:
    given = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
    # The checker wants a shape, even one that says nothing but how many axes there are.
    results = [helper.make_tensor_value_info(name, kind, ["a", "b"]) for name, kind in outputs.items()]
    held = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "g", given, results, held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def perceptron() -> ModelProto:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Cast", ["r"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Cast", ["whole"], ["c"], to=FLOAT),
        helper.make_node("Add", ["c", "r"], ["y"]),
    ]
    weight = RNG.normal(size=(4, 3)).astype(np.float32)
    return network(nodes, {"x": (FLOAT, ["n", 4])}, {"y": FLOAT}, {"w": weight})


def written(model: ModelProto, folder: Path, name: str = "net.onnx") -> Path:
    (folder / name).write_bytes(model.SerializeToString())
    return folder / name


def reference(model: ModelProto, names: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    copied = ModelProto.FromString(model.SerializeToString())
    known = {value.name for value in copied.graph.output}
    copied.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    return onnx.reference.ReferenceEvaluator(copied).run(names, inputs)


def endless() -> ModelProto:
    floats = helper.make_tensor_value_info("v", FLOAT, [1, 1])
    step, going = helper.make_tensor_value_info("i", 7, []), helper.make_tensor_value_info("c", 9, [])
    after, goes = helper.make_tensor_value_info("w", FLOAT, [1, 1]), helper.make_tensor_value_info("d", 9, [])
    nodes = [helper.make_node("Sin", ["v"], ["w"]), helper.make_node("Identity", ["c"], ["d"])]
    body = helper.make_graph(nodes, "body", [step, going, floats], [goes, after])
    loop = helper.make_node("Loop", ["", "yes", "x"], ["y"], body=body)
    return network([loop], {"x": (FLOAT, [1, 1])}, {"y": FLOAT}, {"yes": np.array(True)})


def test_outputs_are_those_of_the_reference(tmp_path: Path) -> None:
    model = perceptron()
    trial = run_trial(written(model, tmp_path))
    assert trial.inputs["x"].shape == (2, 4)
    np.testing.assert_allclose(trial.outputs["y"], reference(model, ["y"], trial.inputs)[0], rtol=1e-5, atol=1e-6)
    assert (trial.values, trial.optimisation, trial.version) == ({}, "all", onnxruntime.__version__)


def test_made_up_inputs_are_hashes_of_their_names(tmp_path: Path) -> None:
    drawn = np.frombuffer(hashlib.shake_256(b"x").digest(32), "<u4").reshape(2, 4)
    trial = run_trial(written(perceptron(), tmp_path))
    np.testing.assert_array_equal(trial.inputs["x"], (drawn / 2**31 - 1).astype(np.float32))


def test_values_between_nodes(tmp_path: Path) -> None:
    model = perceptron()
    x = RNG.normal(size=(5, 4)).astype(np.float32)
    trial = run_trial(written(model, tmp_path), inputs={"x": x}, values=True, optimisation="disabled")
    assert list(trial.values) == ["h", "r", "c"]
    for name, expected in zip("hrc", reference(model, list("hrc"), {"x": x}), strict=True):
        np.testing.assert_allclose(trial.values[name], expected, rtol=1e-5, atol=1e-6)
    assert trial.optimisation == "disabled"
    assert list(trial.outputs) == ["y"]
    with pytest.raises(InvalidValueError, match="'disabled' with values"):
        run_trial(tmp_path / "net.onnx", values=True)


def test_values_of_functions_and_with_external_data(tmp_path: Path) -> None:
    model = perceptron()
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    body = [helper.make_node("Neg", ["v"], ["m"]), helper.make_node("Exp", ["m"], ["w"])]
    model.functions.append(helper.make_function("f", "Decay", ["v"], ["w"], body, opsets[:1]))
    model.opset_import.append(opsets[1])
    model.graph.node[1].op_type, model.graph.node[1].domain = "Decay", "f"
    weight = model.graph.initializer[0]
    (tmp_path / "w.bin").write_bytes(weight.raw_data)
    expected = reference(model, ["y"], {"x": np.ones((1, 4), np.float32)})[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="w.bin")
    path = written(model, tmp_path)
    trial = run_trial(path, inputs={"x": np.ones((1, 4))}, values=True, optimisation="disabled")
    np.testing.assert_allclose(trial.outputs["y"], expected, rtol=1e-5)
    # The names are those of the inlined graph that is read.
    produced = [name for node in read_onnx(path).graph.nodes for name in node.outputs]
    assert list(trial.values) == [name for name in produced if name not in ("whole", "y")]


def test_given_inputs_are_cast_and_must_fit(tmp_path: Path) -> None:
    path = written(perceptron(), tmp_path)
    x = np.arange(8).reshape(2, 4).astype(">f8")
    trial = run_trial(path, inputs={"x": x})
    assert trial.inputs["x"].dtype == np.float32
    np.testing.assert_array_equal(trial.inputs["x"], x)
    with pytest.raises(ModelError, match=r"inputs: expected \['x'\], got \['z'\]"):
        run_trial(path, inputs={"z": x})
    with pytest.raises(ModelError, match=r"does not run it: .*give inputs of the shapes"):
        run_trial(path, inputs={"x": np.zeros((2, 5))})
    with pytest.raises(InvalidValueError, match="array of numbers"):
        run_trial(path, inputs={"x": np.array([["a"]])})


def test_open_sizes_of_one_name_are_one_size() -> None:
    inputs = [
        Input("x", "tensor(float)", ("n", "s", 3)),
        Input("m", "tensor(bool)", ("s", "n", None)),
        Input("i", "tensor(int64)", ()),
    ]
    (found,) = made_up(inputs, None)
    assert {name: (array.shape, array.dtype.name) for name, array in found.items()} == {
        "x": ((2, 8, 3), "float32"),
        "m": ((8, 2, 8), "bool"),
        "i": ((), "int64"),
    }
    assert found["i"] in (0, 1)


@pytest.mark.parametrize(
    ("shape", "hint", "expected"),
    [
        (("n", 3, "h", "w"), None, [(2, 3, side, side) for side in (224, 64, 32, 299, 28)]),
        (("n", 3, "h", "w"), (3, 20, 30), [(2, 3, 20, 30)]),
        ((1, None, None, None), (1, 20, 30), [(1, 1, 20, 30)]),
        (("n", "h", "w", 3), (3, 20, 30), [(2, 20, 30, 3)]),
        ((4, 3, 16, 16), (3, 20, 30), [(4, 3, 16, 16)]),
        (("n", "t", 5), (3, 20, 30), [(2, 8, 5)]),
    ],
)
def test_open_sizes_of_images(
    shape: tuple[int | str | None, ...], hint: tuple[int, int, int] | None, expected: list[object]
) -> None:
    assert [found["x"].shape for found in made_up([Input("x", "tensor(float)", shape)], hint)] == expected


def test_absurd_inputs_are_not_made_up() -> None:
    with pytest.raises(ModelError, match="at most 67108864 elements"):
        list(made_up([Input("x", "tensor(float)", (2**40, 3))], None))
    with pytest.raises(ModelError, match=r"got tensor\(string\)"):
        list(made_up([Input("x", "tensor(string)", (1,))], None))


def test_sizes_are_tried_until_one_runs(tmp_path: Path) -> None:
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    weight = RNG.normal(size=(32 * 32, 2)).astype(np.float32)
    path = written(network(nodes, {"x": (FLOAT, ["n", 1, "h", "w_"])}, {"y": FLOAT}, {"w": weight}), tmp_path)
    assert run_trial(path).inputs["x"].shape == (2, 1, 32, 32)
    with pytest.raises(ModelError, match="does not run it"):
        run_trial(path, hint=(1, 20, 20))
    assert read_onnx(path, trial=True, hint=(1, 32, 32)).trial.inputs["x"].shape == (2, 1, 32, 32)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE])
def test_other_precision_goes_in_and_comes_out(kind: int, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], to=FLOAT),
        helper.make_node("Tanh", ["a"], ["b"]),
        helper.make_node("Cast", ["b"], ["y"], to=kind),
    ]
    path = written(network(nodes, {"x": (kind, ["n", 3])}, {"y": kind}), tmp_path)
    trial = run_trial(path, values=True, optimisation="disabled")
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    assert trial.inputs["x"].dtype == trial.outputs["y"].dtype == dtype
    expected = np.tanh(trial.inputs["x"].astype(np.float32)).astype(dtype)
    np.testing.assert_allclose(
        trial.outputs["y"].astype(float), expected.astype(float), rtol=1e-2 if kind != 11 else 1e-6
    )
    if kind == TensorProto.BFLOAT16:
        given = run_trial(path, inputs={"x": np.ones((1, 3), ml_dtypes.bfloat16)})
        assert given.inputs["x"].dtype == ml_dtypes.bfloat16


def test_what_the_runtime_lacks_is_passed_on(tmp_path: Path) -> None:
    nodes = [helper.make_node("Erf", ["x"], ["y"])]
    path = written(network(nodes, {"x": (TensorProto.DOUBLE, ["n", 3])}, {"y": TensorProto.DOUBLE}), tmp_path)
    with pytest.raises(ModelError, match=r"ONNX Runtime \S+ does not load it: .*Erf.*export the network so"):
        run_trial(path)


def test_running_too_long_ends_the_child(tmp_path: Path) -> None:
    started_at = time.monotonic()
    with pytest.raises(ModelError, match=r"within 1\.5 s, it took longer; give more seconds"):
        run_trial(written(endless(), tmp_path), seconds=1.5)
    assert time.monotonic() - started_at < 6


def test_asking_for_too_much_memory_is_an_error(tmp_path: Path) -> None:
    nodes = [helper.make_node("ConstantOfShape", ["s"], ["c"]), helper.make_node("Add", ["x", "c"], ["y"])]
    model = network(nodes, {"x": (FLOAT, ["n", 1])}, {"y": FLOAT}, {"s": np.array([2**13, 2**14])})
    with pytest.raises(ModelError, match="memory"):
        run_trial(written(model, tmp_path), memory=2**29)


@pytest.mark.parametrize(
    ("code", "pattern"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended by SIGSEGV .it said nothing."),
        ("import sys; sys.exit('a reason')", "failed with code 1 .a reason"),
        ("pass", "failed with code 0"),
        ("raise MemoryError", "needs more than 8.0 GiB of memory"),
    ],
)
def test_a_child_that_fails_is_an_error(
    code: str, pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(perceptron(), tmp_path)
    monkeypatch.setattr(children, "COMMAND", [sys.executable, "-c", code])
    with pytest.raises(ModelError, match=pattern) as caught:
        run_trial(path)
    assert str(path) in str(caught.value)


def test_an_interrupt_ends_the_child_and_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children.tempfile, "tempdir", str(tmp_path))
    path = written(endless(), tmp_path)
    before = set(tmp_path.iterdir())
    found = []

    def interrupted() -> None:
        with started([Request(path, run=True)], fork=True) as child:
            found.append(child)
            time.sleep(1)
            assert child.process.poll() is None
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    (child,) = found
    assert child.process.returncode == -signal.SIGKILL
    for _ in range(100):
        try:
            os.killpg(child.process.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.05)
    else:
        # In a container nobody may reap what is dead.
        assert not [p for p in Path("/proc").glob("[0-9]*/stat") if f" {child.process.pid} " in _alive(p)]
    assert set(tmp_path.iterdir()) == before


def _alive(stat: Path) -> str:
    try:
        state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
    except (OSError, ValueError):
        return ""
    return "" if state == "Z" else f" {group} "


def test_many_files_give_their_results_in_order(tmp_path: Path) -> None:
    good = written(perceptron(), tmp_path, "good.onnx")
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"nothing")
    loop = written(endless(), tmp_path, "loop.onnx")
    requests = [
        Request(good, run=True),
        Request(bad, run=True),
        Request(loop, run=True, seconds=1.0),
        Request(loop),
        Request(tmp_path / "missing.onnx"),
        Request(good),
    ]
    first, second, third, fourth, fifth, sixth = check_many(requests)
    assert isinstance(first, Answer)
    assert isinstance(first.trial, Trial)
    np.testing.assert_array_equal(first.trial.outputs["y"], run_trial(good).outputs["y"])
    assert isinstance(second, ModelError)
    assert "do not parse" in str(second)
    assert isinstance(third, ModelError)
    assert "took longer" in str(third)
    assert isinstance(fourth, Answer)
    assert fourth.trial is None
    assert isinstance(fifth, ModelError)
    assert isinstance(sixth, Answer)
    assert sixth.digest == check_file(good).digest == hashlib.sha256(good.read_bytes()).hexdigest()
    assert check_many([]) == []


def test_modules_of_the_working_folder_are_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(perceptron(), tmp_path)
    (tmp_path / "onnx.py").write_text("raise SystemExit(9)")
    (tmp_path / "numpy.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    assert run_trial("net.onnx").outputs["y"].shape == (2, 3)
    assert path.is_file()
