"""Builds small ONNX files node by node."""

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper


def normal(*shape, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(*shape, generator=generator) * scale).numpy()


class Builder:
    """Builds small ONNX files node by node."""

    def __init__(self, shape, opset=18, element_type=TensorProto.FLOAT):
        self.nodes, self.tensors, self.infos = [], [], []
        self.input = helper.make_tensor_value_info("x", element_type, shape)
        self.opset, self.element_type = opset, element_type

    def tensor(self, name, array):
        self.tensors.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def add(self, op, *inputs, outputs=1, name="", **attributes):
        made = [f"{op.lower()}_{len(self.nodes)}" + (f"_{k}" if k else "") for k in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), made, name=name or made[0], **attributes))
        return made[0] if outputs == 1 else made

    def save(self, path, output, shape, element_type=None):
        out = helper.make_tensor_value_info(output, element_type or self.element_type, shape)
        graph = helper.make_graph(self.nodes, "g", [self.input], [out], self.tensors, value_info=self.infos)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        onnx.save(model, path)
        return path
