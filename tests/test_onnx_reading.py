"""Reading ONNX files: what is read, and what is refused with which reason."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx.defs
import onnx.reference
import pytest
from onnx import ModelProto, StringStringEntryProto, TensorProto, helper, numpy_helper

from robustcheck.errors import ModelError, RobustcheckError, UnsafeFileError
from robustcheck.networks.onnx import children, reading
from robustcheck.networks.onnx.reading import OnnxFile, read_many, read_onnx
from robustcheck.networks.onnx.trial import Request

NEWEST = onnx.defs.onnx_opset_version()
WEIGHT = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def floats(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def linear(*, weight: np.ndarray = WEIGHT, opset: int = 17, ir_version: int = 8) -> ModelProto:
    """y = relu(x w)."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"], name="mm"), helper.make_node("Relu", ["h"], ["y"])]
    tensor = numpy_helper.from_array(weight, "w")
    inputs, outputs = [floats("x", "n", weight.shape[0])], [floats("y", "n", weight.shape[1])]
    graph = helper.make_graph(nodes, "linear", inputs, outputs, [tensor])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def externally(tensor: TensorProto, location: str, **entries: object) -> None:
    tensor.ClearField("raw_data")
    del tensor.external_data[:]
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.append(StringStringEntryProto(key=key, value=str(value)))


def written(model: ModelProto | bytes, folder: Path, name: str = "net.onnx") -> Path:
    path = folder / name
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def read(model: ModelProto | bytes, folder: Path) -> OnnxFile:
    return read_onnx(written(model, folder))


def refusals(
    cases: Sequence[tuple[ModelProto | bytes, str]], folder: Path, kind: type[ModelError] = ModelError
) -> None:
    """Each model, and the pattern that its error must match; one child for all."""
    paths = [written(model, folder, f"{number}.onnx") for number, (model, _) in enumerate(cases)]
    for (_, pattern), path, result in zip(cases, paths, read_many([Request(path) for path in paths]), strict=True):
        assert type(result) is kind, pattern
        with pytest.raises(RobustcheckError, match=pattern):
            raise result
        assert str(result).startswith(f"{path}: ")


def read_each(models: list[ModelProto], folder: Path) -> list[OnnxFile]:
    """All of the models, by one child."""
    paths = [written(model, folder, f"{number}.onnx") for number, model in enumerate(models)]
    files = read_many([Request(path) for path in paths])
    assert all(isinstance(file, OnnxFile) for file in files), files
    return [file for file in files if isinstance(file, OnnxFile)]


def changed(model: ModelProto, change: Callable[[ModelProto], object]) -> ModelProto:
    change(model)
    return model


def test_a_file_is_read_with_its_weights_and_shapes(tmp_path: Path) -> None:
    model = linear()
    file = read(model, tmp_path)
    assert file.sha256 == hashlib.sha256(file.path.read_bytes()).hexdigest()
    assert file.proto == model
    assert [node.op for node in file.graph.nodes] == ["MatMul", "Relu"]
    assert file.graph.values["h"].shape == ("n", 3)
    assert [value.name for value in file.graph.inputs] == ["x"]
    np.testing.assert_array_equal(file.graph.initialisers["w"], WEIGHT)
    assert (file.external, file.notes, file.trial) == (False, (), None)


def test_large_weights_are_left_out_of_inference_only(tmp_path: Path) -> None:
    weight = np.random.default_rng(1).normal(size=(300, 200)).astype(np.float32)
    model = linear(weight=weight)
    file = read(model, tmp_path)
    assert file.proto == model
    assert file.graph.values["h"].shape == ("n", 200)
    assert [value.name for value in file.graph.inputs] == ["x"]
    np.testing.assert_array_equal(file.graph.initialisers["w"], weight)


def test_opsets_from_the_oldest_to_the_newest(tmp_path: Path) -> None:
    opsets = [9, 13, 17, NEWEST]
    files = read_each([linear(opset=opset, ir_version=onnx.IR_VERSION) for opset in opsets], tmp_path)
    assert [file.graph.opset for file in files] == opsets


def test_other_files_are_refused(tmp_path: Path) -> None:
    whole = linear().SerializeToString()
    cases: list[tuple[ModelProto | bytes, str]] = [
        (b"", "hold no graph"),
        (b"hello world, not a protobuf", "do not parse"),
        (whole[:-7], "cut off"),
        (b"PK\x03\x04" + whole, "zip"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x20\x00\x00\x00ORTM" + whole, "ONNX Runtime's own format"),
        (ModelProto(ir_version=8), "no graph"),
        (linear(opset=8), r"from 9 to \d+, got 8; .*version_converter"),
        (linear(opset=NEWEST + 1), f"to {NEWEST}, got {NEWEST + 1}; .*newer onnx"),
        (linear(ir_version=onnx.IR_VERSION + 1), "IR version at most"),
        (changed(linear(), lambda m: m.training_info.add()), "training graph"),
        (changed(linear(), lambda m: m.opset_import.append(helper.make_opsetid("ai.onnx", 12))), "one opset"),
    ]
    refusals(cases, tmp_path)


def test_broken_graphs_are_refused(tmp_path: Path) -> None:
    def node(number: int) -> Callable[[ModelProto], onnx.NodeProto]:
        return lambda m: m.graph.node[number]

    cases: list[tuple[ModelProto | bytes, str]] = [
        (changed(linear(), lambda m: node(0)(m).input.__setitem__(0, "y")), "form a cycle.*topologically sorted"),
        (changed(linear(), lambda m: m.graph.node.reverse()), "order of execution"),
        (changed(linear(), lambda m: node(1)(m).input.__setitem__(0, "nowhere")), "nowhere"),
        (changed(linear(), lambda m: m.graph.node.append(m.graph.node[0])), "single static assignment"),
        (changed(linear(), lambda m: m.graph.initializer.append(m.graph.initializer[0])), "initialisers.*'w' twice"),
        (changed(linear(), lambda m: m.graph.input.append(m.graph.input[0])), "inputs.*'x' twice"),
        (changed(linear(), lambda m: setattr(node(0)(m), "op_type", "Nothing")), "No Op registered for Nothing"),
        (linear().SerializeToString().replace(b"Relu", b"R\xff\xfeu"), "UTF-8"),
    ]
    refusals(cases, tmp_path)


def test_tensors_that_claim_what_they_do_not_hold_are_refused(tmp_path: Path) -> None:
    def tensor(**fields: object) -> ModelProto:
        model = linear()
        del model.graph.initializer[:]
        model.graph.initializer.append(TensorProto(name="w", **fields))  # type: ignore[arg-type]
        return model

    typed = TensorProto.FLOAT
    cases: list[tuple[ModelProto | bytes, str]] = [
        (tensor(data_type=typed, dims=[2**40, 2**20], raw_data=b"\0" * 48), f"{2**62} bytes, the file holds 48"),
        (tensor(data_type=typed, dims=[4, 4], raw_data=b"\0" * 48), "64 bytes, the file holds 48"),
        (tensor(data_type=typed, dims=[4, 2], raw_data=b"\0" * 48), "32 bytes, the file holds 48"),
        (tensor(data_type=typed, dims=[4, 3], float_data=[0.0] * 11), "12 values in float_data, the file holds 11"),
        (tensor(data_type=TensorProto.INT64, dims=[9], int32_data=[1] * 9), "9 values in int64_data, the file holds 0"),
        (tensor(data_type=TensorProto.COMPLEX64, dims=[2], float_data=[0.0] * 2), "4 values in float_data"),
        (tensor(data_type=TensorProto.INT4, dims=[3], int32_data=[0] * 3), "2 values in int32_data, the file holds 3"),
        (tensor(data_type=typed, dims=[-1, 12], raw_data=b"\0" * 48), "sizes from 0"),
        (tensor(data_type=typed, dims=[1] * 65, raw_data=b"\0" * 4), "at most 64 axes"),
        (tensor(data_type=0, dims=[1], raw_data=b"\0" * 4), "element type, got 0"),
        (tensor(data_type=99, dims=[1], raw_data=b"\0" * 4), "element type, got 99"),
    ]
    refusals(cases, tmp_path)


def test_quantised_files_are_refused(tmp_path: Path) -> None:
    def quantised(op: str, domain: str = "") -> ModelProto:
        model = linear()
        model.graph.node[0].op_type, model.graph.node[0].domain = op, domain
        return model

    ops = ["QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "MatMulInteger", "ConvInteger"]
    reason = "quantised already .1 nodes, first {} 'mm'.*float model"
    cases: list[tuple[ModelProto | bytes, str]] = [(quantised(op), reason.format(op)) for op in ops]
    refusals([*cases, (quantised("QGemm", "com.microsoft"), reason.format("QGemm"))], tmp_path)


def test_infinite_masks_are_read(tmp_path: Path) -> None:
    assert np.isinf(read(linear(weight=np.full((4, 3), -np.inf, np.float32)), tmp_path).graph.initialisers["w"]).all()


def test_weights_of_other_precision(tmp_path: Path) -> None:
    types = [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE]
    weights = [WEIGHT.astype(helper.tensor_dtype_to_np_dtype(each)) for each in types]
    models = [linear(weight=weight) for weight in weights]
    for model, element_type in zip(models, types, strict=True):
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.elem_type = element_type
    for file, weight in zip(read_each(models, tmp_path), weights, strict=True):
        assert file.graph.initialisers["w"].dtype == weight.dtype
        np.testing.assert_array_equal(file.graph.initialisers["w"], weight)


def test_paths_that_hold_no_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be opened"):
        read_onnx(tmp_path / "missing.onnx")
    with pytest.raises(ModelError, match="got a folder"):
        read_onnx(tmp_path)
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(ModelError, match="or a device"):
        read_onnx(tmp_path / "pipe.onnx")
    with (tmp_path / "huge.onnx").open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(ModelError, match=r"at most 2 GiB, got 2\.0 GiB; .*external data"):
        read_onnx(tmp_path / "huge.onnx")


def test_a_file_that_changes_meanwhile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_bytes", lambda path: path.read_bytes() + b"\0")
    with pytest.raises(ModelError, match="changed while"):
        read(linear(), tmp_path)


# External data.


def outside(folder: Path, location: str = "w.bin", lead: int = 64, tail: int = 10, **entries: object) -> ModelProto:
    """The linear network with its weight in another file, which is written where the location says."""
    model = linear()
    data = b"\1" * lead + model.graph.initializer[0].raw_data + b"\2" * tail
    if not location.startswith(("/", "C:", "\\")) and ".." not in Path(location.replace("\\", "/")).parts:
        (folder / location).parent.mkdir(exist_ok=True)
        (folder / location).write_bytes(data)
    externally(model.graph.initializer[0], location, **{"offset": lead, "length": WEIGHT.nbytes, **entries})
    return model


@pytest.mark.parametrize("location", ["w.bin", "data/w.bin", "./w.bin", "w..bin"])
def test_external_data_are_brought_in(location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(outside(tmp_path, location), tmp_path)
    file = read_onnx(path, trial=True)
    assert file.external
    np.testing.assert_array_equal(file.graph.initialisers["w"], WEIGHT)
    assert file.proto == linear()
    trial = file.trial
    assert trial is not None
    np.testing.assert_allclose(trial.outputs["y"], np.maximum(trial.inputs["x"] @ WEIGHT, 0), rtol=1e-5, atol=1e-6)
    monkeypatch.chdir(tmp_path)
    assert read_onnx("net.onnx").sha256 == file.sha256


def test_the_hash_covers_the_external_data_that_are_used(tmp_path: Path) -> None:
    first = read(outside(tmp_path), tmp_path).sha256
    content = (tmp_path / "w.bin").read_bytes()
    (tmp_path / "w.bin").write_bytes(content[:-1] + b"\3")
    assert read_onnx(tmp_path / "net.onnx").sha256 == first
    (tmp_path / "w.bin").write_bytes(content[:70] + b"\3" + content[71:])
    assert read_onnx(tmp_path / "net.onnx").sha256 != first
    inside = hashlib.sha256((tmp_path / "net.onnx").read_bytes()).hexdigest()
    assert inside != first


def test_offset_and_length_may_be_absent(tmp_path: Path) -> None:
    model = outside(tmp_path, lead=0, tail=0)
    externally(model.graph.initializer[0], "w.bin")
    np.testing.assert_array_equal(read(model, tmp_path).graph.initialisers["w"], WEIGHT)


def test_external_data_of_constants_and_of_branches(tmp_path: Path) -> None:
    (tmp_path / "c.bin").write_bytes(np.float32([1, 2, 3]).tobytes())
    constant = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[3])
    externally(constant, "c.bin")
    held = TensorProto(name="b", data_type=TensorProto.FLOAT, dims=[3])
    externally(held, "c.bin")
    one = helper.make_graph([helper.make_node("Add", ["k", "b"], ["o"])], "one", [], [floats("o", 3)], [held])
    other = helper.make_graph([helper.make_node("Identity", ["k"], ["p"])], "other", [], [floats("p", 3)])
    nodes = [
        helper.make_node("Constant", [], ["k"], value=constant),
        helper.make_node("If", ["x"], ["y"], then_branch=one, else_branch=other),
    ]
    truth = helper.make_tensor_value_info("x", TensorProto.BOOL, [])
    graph = helper.make_graph(nodes, "g", [truth], [floats("y", 3)])
    file = read(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path)
    assert file.external
    np.testing.assert_array_equal(file.graph.constant("k"), np.float32([1, 2, 3]))
    np.testing.assert_array_equal(
        file.graph.nodes[1].attributes["then_branch"].initialisers["b"], np.float32([1, 2, 3])
    )


def test_external_paths_that_leave_the_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(200))
    folder = tmp_path / "inner"
    folder.mkdir()
    locations = ["../w.bin", "a/../../w.bin", "/etc/passwd", "C:\\w.bin", "..\\w.bin", "\\\\host\\w"]
    models = [outside(folder, location, lead=0, tail=0) for location in locations]
    refusals([(model, "inside the model's folder") for model in models], folder, UnsafeFileError)


def test_links_may_stay_in_the_folder_but_not_leave_it(tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    model = outside(folder)
    (folder / "w.bin").rename(folder / "real.bin")
    (folder / "w.bin").symlink_to("real.bin")
    assert read(model, folder).external
    (folder / "real.bin").rename(tmp_path / "real.bin")
    (folder / "w.bin").unlink()
    (folder / "w.bin").symlink_to("../real.bin")
    with pytest.raises(UnsafeFileError, match="a link that leaves"):
        read(model, folder)
    (folder / "up").symlink_to("..")
    externally(model.graph.initializer[0], "up/real.bin", offset=64)
    with pytest.raises(UnsafeFileError, match="a link that leaves"):
        read(model, folder)


def test_external_data_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "folder").mkdir()
    with (tmp_path / "huge.bin").open("wb") as file:
        file.truncate(9 * 2**30)

    def huge() -> ModelProto:
        model = outside(tmp_path)
        model.graph.initializer[0].dims[:] = [9 * 2**28]
        externally(model.graph.initializer[0], "huge.bin")
        return model

    def shared(count: int, step: int, end: int) -> ModelProto:
        (tmp_path / f"shared{end}.bin").write_bytes(bytes(end))
        model = outside(tmp_path)
        for number in range(count):
            tensor = TensorProto(name=f"t{number}", data_type=TensorProto.FLOAT, dims=[12])
            externally(tensor, f"shared{end}.bin", offset=number * step)
            model.graph.initializer.append(tensor)
        return model

    cases: list[tuple[ModelProto | bytes, str]] = [
        (changed(outside(tmp_path), lambda m: externally(m.graph.initializer[0], "missing.bin")), "not found"),
        (changed(outside(tmp_path), lambda m: externally(m.graph.initializer[0], "")), "expected the path"),
        (changed(outside(tmp_path), lambda m: externally(m.graph.initializer[0], "pipe")), "or a device"),
        (changed(outside(tmp_path), lambda m: externally(m.graph.initializer[0], "folder")), "got a folder"),
        (changed(outside(tmp_path), lambda m: externally(m.graph.initializer[0], "loop")), "not found"),
        (outside(tmp_path, offset=10**6), "ends at byte 1000048, the file at 122"),
        (outside(tmp_path, offset=75), "ends at byte 123, the file at 122; it is cut off"),
        (outside(tmp_path, offset=-1), "offset of tensor 'w': expected a number of bytes from 0, got '-1'"),
        (outside(tmp_path, offset="1e3"), "got '1e3'"),
        (outside(tmp_path, offset=10**30), "offset of tensor"),
        (outside(tmp_path, length=-48), "length of tensor"),
        (outside(tmp_path, length=47), "asks for 48 bytes of external data, the model says 47"),
        (outside(tmp_path, length=2**62), "asks for 48 bytes"),
        (huge(), r"at most 8 GiB, got 9\.0 GiB"),
        (shared(3, 24, 500), "'t0' and 't1' overlap"),
        (shared(30, 0, 48), "share files that hold"),
    ]
    refusals(cases, tmp_path)


def test_two_tensors_may_share_their_data(tmp_path: Path) -> None:
    model = outside(tmp_path)
    twin = TensorProto()
    twin.CopyFrom(model.graph.initializer[0])
    twin.name = "twin"
    model.graph.initializer.append(twin)
    np.testing.assert_array_equal(read(model, tmp_path).graph.initialisers["twin"], WEIGHT)


# Sparse tensors, functions, notes.


def with_sparse(dims: list[int], places: list[int], shape: list[int] | None = None) -> ModelProto:
    model = linear()
    del model.graph.initializer[:]
    values = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.5, -2.0])
    indices = helper.make_tensor("i", TensorProto.INT64, shape or [len(places)], places)
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, dims))
    return model


def test_sparse_weights_are_written_out(tmp_path: Path) -> None:
    expected = np.zeros((4, 3), np.float32)
    expected[0, 1], expected[3, 2] = 1.5, -2.0
    models = [with_sparse([4, 3], [1, 11]), with_sparse([4, 3], [0, 1, 3, 2], [2, 2])]
    for file in read_each(models, tmp_path):
        np.testing.assert_array_equal(file.graph.initialisers["w"], expected)


def test_absurd_sparse_weights_are_refused(tmp_path: Path) -> None:
    twice = with_sparse([2**25], [1, 2])
    other = with_sparse([2**25 + 1], [1, 2]).graph.sparse_initializer[0]
    other.values.name = "v"
    twice.graph.sparse_initializer.append(other)
    cases: list[tuple[ModelProto | bytes, str]] = [
        (with_sparse([2**40], [1, 2]), r"2\*\*31 elements"),
        (with_sparse([2**62] * 3, [1, 2]), r"2\*\*31 elements"),
        (with_sparse([2**26 + 1], [1, 2]), "at most 256 MiB"),
        (twice, "at most 256 MiB"),
        (with_sparse([4, 3], [1, 12]), "2 indices inside of"),
        (with_sparse([4, 3], [-1, 5]), "2 indices inside of"),
        (with_sparse([4, 3], [1, 2, 3]), "2 indices inside of"),
        (with_sparse([4, -3], [1, 2]), "sizes from 0"),
    ]
    refusals(cases, tmp_path)


def with_functions(depth: int, *, last: str = "Relu") -> ModelProto:
    """y = x w through functions that each call the next one twice."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    model = linear()
    model.graph.node[1].op_type, model.graph.node[1].domain = "F0", "f"
    model.opset_import.append(opsets[1])
    for level in reversed(range(depth)):
        call = f"F{level + 1}"
        body = [helper.make_node(call, ["v"], ["u"], domain="f"), helper.make_node(call, ["u"], ["w"], domain="f")]
        if level == depth - 1:
            body = [helper.make_node(last, ["v"], ["w"], domain="" if last == "Relu" else "f")]
        model.functions.append(helper.make_function("f", f"F{level}", ["v"], ["w"], body, opsets))
    return model


def test_local_functions_are_inlined(tmp_path: Path) -> None:
    model = with_functions(3)
    file = read(model, tmp_path)
    assert [node.op for node in file.graph.nodes] == ["MatMul", "Relu", "Relu", "Relu", "Relu"]
    assert not file.proto.functions
    assert "3 local functions were inlined: F0, F1, F2" in file.notes[0]
    onnx.checker.check_model(file.proto)
    x = np.random.default_rng(2).normal(size=(5, 4)).astype(np.float32)
    expected = onnx.reference.ReferenceEvaluator(model).run(None, {"x": x})[0]
    np.testing.assert_array_equal(onnx.reference.ReferenceEvaluator(file.proto).run(None, {"x": x})[0], expected)
    assert all(value.shape == ("n", 3) for name, value in file.graph.values.items() if name not in ("x", "w"))


def test_functions_that_grow_without_bounds_are_refused(tmp_path: Path) -> None:
    refusals(
        [(with_functions(60), "at most 1000000 nodes"), (with_functions(1, last="F0"), "do not call themselves")],
        tmp_path,
    )


def test_shapes_that_contradict_one_another_are_noted(tmp_path: Path) -> None:
    model = linear()
    model.graph.value_info.append(floats("h", "n", 7))
    file = read(model, tmp_path)
    assert "not all shapes could be inferred" in file.notes[0]
    assert file.proto == model


def test_the_child_does_not_import_torch() -> None:
    code = (
        "import sys, robustcheck.networks.onnx.child, robustcheck.networks.onnx.session;"
        "print([name for name in ('torch', 'scipy', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(children.tempfile, "tempdir", str(place))
    path = written(linear(), tmp_path)
    read_onnx(path, trial=True)
    with pytest.raises(ModelError):
        read(b"nothing", tmp_path)
    assert list(place.iterdir()) == []
