"""The embedding of an image: the vector that the last linear layer gets, found in each graph.

No bundle is exported with it. In every format the walk starts at the logits and goes back through
operations that the classifier may end with, along their first inputs, to a product with a matrix.
Where there is none, in a network that ends with a convolution for example, there is no embedding.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

_OPENVINO_AFTER = {
    *("Add", "Reshape", "Squeeze", "Convert", "FakeQuantize"),
    *("Softmax", "LogSoftmax", "Log", "Maximum", "Clamp"),
}
# Before the product: they move or round the values of the vector.
_OPENVINO_BEFORE = {"FakeQuantize", "Reshape", "Squeeze"}
_TORCH_AFTER = {
    f"aten::{name}"
    for name in (
        *("add", "add_", "to", "reshape", "view", "flatten", "squeeze", "contiguous"),
        *("softmax", "log_softmax", "log", "clamp", "clamp_min"),
    )
}
# Each product: the positions of its vector and of its matrix, and the matrix's side of the vector.
_TORCH_PRODUCTS = {
    "aten::linear": (0, 1, 1),
    "aten::matmul": (0, 1, 0),
    "aten::mm": (0, 1, 0),
    "aten::addmm": (1, 2, 0),
}
_TENSORFLOW_AFTER = {
    *("Identity", "BiasAdd", "Add", "AddV2", "Reshape", "Squeeze", "Cast"),
    *("Softmax", "LogSoftmax", "Log", "Maximum"),
}
_TENSORFLOW_CALLS = {"PartitionedCall", "StatefulPartitionedCall"}


class WithEmbedding(NamedTuple):
    """A function of pixels that returns logits [N, C] and embeddings [N, D], and D."""

    run: Any
    dimension: int


def add_openvino_output(model: Any) -> int | None:
    """Add the output `embedding` to an `openvino.Model`; its dimension, or None: there is none.

    The output has sides of 1 after the dimension where the graph has removed them.
    """
    node = model.output("logits").get_node().input_value(0).get_node()
    while node.get_type_name() in _OPENVINO_AFTER:
        node = node.input_value(0).get_node()
    if node.get_type_name() != "MatMul" or node.get_attributes()["transpose_a"]:
        return None
    found = node.input_value(0)
    dimension = _vector(found)
    if dimension is None:
        return None
    while found.get_node().get_type_name() in _OPENVINO_BEFORE:
        before = found.get_node().input_value(0)
        if _vector(before) != dimension:
            break
        found = before
    # Another output of the same tensor, the input of a removed one for example, keeps its names.
    model.add_outputs(found)[0].get_tensor().add_names({"embedding"})
    return dimension


def _vector(port: Any) -> int | None:
    """D of an OpenVINO tensor [N, D, 1, 1 ...]; None: it has another shape."""
    sides = list(port.get_partial_shape())
    if len(sides) < 2 or not all(side.is_static for side in sides[1:]):
        return None
    dimension, *rest = (int(side.get_length()) for side in sides[1:])
    return dimension if all(side == 1 for side in rest) else None


def torchscript_function(torch: ModuleType, module: Any) -> WithEmbedding | None:
    """`forward` of a frozen module, whose weights it shares, with embeddings as a second output.

    Args:
        torch: The package.
        module: Frozen, so that its weights are constants of its graph, and submodules are inlined.
    """
    graph = module.forward.graph.copy()
    node = next(graph.outputs()).node()
    while node.kind() in _TORCH_AFTER:
        node = next(node.inputs()).node()
    if node.kind() not in _TORCH_PRODUCTS:
        return None
    vector, matrix, side = _TORCH_PRODUCTS[node.kind()]
    inputs = list(node.inputs())
    sizes = (
        inputs[matrix].type().sizes() if inputs[matrix].node().kind() == "prim::Constant" else None
    )
    module_input = next(graph.inputs())
    if not sizes or len(sizes) != 2 or module_input.uses():
        return None
    graph.registerOutput(inputs[vector])
    graph.makeMultiOutputIntoTuple()
    graph.eraseInput(0)
    return WithEmbedding(torch._C._create_function_from_graph("embed", graph), int(sizes[side]))


def tensorflow_dimension(function: Any) -> int | None:
    """The dimension of the embedding, read from a concrete function; None: there is none."""
    found = _tensorflow_embedding(function.graph, _logits(function, function))
    return None if found is None else int(found.shape[1])


def tensorflow_function(function: Any) -> Any:
    """A concrete function of pixels that returns logits and embeddings.

    Its weights are a copy, as constants.

    Args:
        function: One that has a `tensorflow_dimension`, with the output `logits`.
    """
    # The one heavy import, here so that this package never loads it in the web process.
    from tensorflow.python.framework.convert_to_constants import (  # noqa: PLC0415
        convert_variables_to_constants_v2,
    )

    frozen = convert_variables_to_constants_v2(function, lower_control_flow=False)
    logits = _logits(function, frozen)
    return frozen.prune(frozen.inputs, [logits, _tensorflow_embedding(frozen.graph, logits)])


def _logits(function: Any, same: Any) -> Any:
    """The tensor of the logits in `same`, whose outputs are in the order of those of `function`."""
    return same.outputs[sorted(function.structured_outputs).index("logits")]


def _tensorflow_embedding(graph: Any, tensor: Any) -> Any | None:
    """The embedding that a tensor is computed from, perhaps in a function that its graph calls."""
    while True:
        operation = tensor.op
        if operation.type in _TENSORFLOW_CALLS:
            graph = graph._get_function(operation.get_attr("f").name).graph
            tensor = graph.outputs[tensor.value_index]
        elif operation.type in _TENSORFLOW_AFTER:
            tensor = operation.inputs[0]
        else:
            break
    if operation.type != "MatMul" or operation.get_attr("transpose_a"):
        return None
    found = operation.inputs[0]
    return found if found.shape.rank == 2 and found.shape[1] is not None else None
