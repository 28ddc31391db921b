"""A dozen of the 48 files of the export matrix, all checks each; `make matrix` runs them all."""

import export_networks
import onnx
import pytest
from activation_trace import traced_activations
from export_matrix import CHECKS, Subject, checked
from exports import OPSETS, Combination, export, opset_of
from graph_difference import difference, group_error, groups
from onnx import helper, numpy_helper

DOZEN = [
    Combination(network, exporter, OPSETS[(place + shift) % 4])
    for place, network in enumerate(export_networks.NETWORKS)
    for exporter, shift in (("default", 1), ("legacy", 0))
]


@pytest.mark.parametrize("name", export_networks.NETWORKS)
def test_each_network_uses_all_fourteen(name):
    traced = traced_activations(export_networks.build(name), export_networks.inputs(2))
    assert sorted(kind.partition("(")[0] for kind, _ in traced) == sorted(export_networks.KINDS)


@pytest.mark.parametrize("combination", DOZEN, ids=lambda each: each.stem)
def test_matrix(combination, tmp_path):
    path = export(combination, tmp_path)
    # The default exporter is written for opset 18 and later, and keeps 18 where it is asked for less.
    least = 18 if combination.exporter == "default" else 17
    assert opset_of(onnx.load(path)) == max(combination.requested, least)
    results = dict(checked(Subject(combination.network, path, tmp_path)))
    assert {name: check.detail for name, check in results.items() if not check.passed} == {}
    assert list(results) == list(CHECKS)


def _small():
    weight = numpy_helper.from_array(export_networks.inputs(1).numpy()[0, 0, :2, :2].copy(), "w")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Sigmoid", ["a"], ["s"]),
        helper.make_node("Mul", ["a", "s"], ["b"]),
        helper.make_node("MatMul", ["b", "w"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 2]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def _edited(edit):
    model = _small()
    edit(model)
    return difference(_small(), model)


def _reorder(model):
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


class TestDifference:
    def test_nothing(self):
        same = _edited(lambda model: None)
        assert (same.removed, same.added, same.weights, same.beyond) == ((), (), (), ())

    def test_an_exchanged_activation(self):
        def edit(model):
            model.graph.node[1].CopyFrom(helper.make_node("Relu", ["a"], ["b"]))
            del model.graph.node[2]

        found = _edited(edit)
        assert [node.op_type for node in found.removed] == ["Sigmoid", "Mul"]
        assert [node.op_type for node in found.added] == ["Relu"]
        assert found.beyond == ()
        (group,) = groups(found.removed)
        assert group_error(group, _small(), "silu") < 1e-6 < group_error(group, _small(), "gelu")

    def test_a_weight(self):
        found = _edited(lambda model: model.graph.initializer[0].CopyFrom(numpy_helper.from_array(_other(), "w")))
        assert (found.weights, found.beyond) == (("w",), ())

    @pytest.mark.parametrize(
        "edit",
        [
            _reorder,
            lambda model: setattr(model, "producer_name", "other"),
            lambda model: setattr(model.opset_import[0], "version", 21),
            lambda model: setattr(model.graph.output[0], "name", "z"),
            lambda model: model.metadata_props.add(key="k", value="v"),
            lambda model: model.graph.initializer.append(numpy_helper.from_array(_other(), "unread")),
            lambda model: model.graph.initializer[0].dims.reverse() or model.graph.initializer[0].dims.append(1),
            lambda model: model.graph.value_info.append(helper.make_tensor_value_info("a", 1, ["n", 2])),
        ],
    )
    def test_anything_else(self, edit):
        assert _edited(edit).beyond


def _other():
    return export_networks.inputs(1).numpy()[0, 1, :2, :2].copy()
