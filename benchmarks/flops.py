"""Counts the floating-point operations of matrix products and convolutions in a graph, from its shapes.

A multiplication and an addition are two operations. Everything else is left out: it takes memory's time, not the units' whose
peak `machine.matrix_products` measures. TensorFlow's own profiler is not used, because it also counts gradients that nobody
asked for, such as that of a first convolution with respect to its images, and is off by the padding in convolutions' gradients.
"""

import math

import tensorflow as tf

_MATMULS = {"MatMul": "transpose_a", "BatchMatMul": "adj_x", "BatchMatMulV2": "adj_x", "BatchMatMulV3": "adj_x"}


def count(function: tf.types.experimental.ConcreteFunction) -> int:
    """The operations of one call.

    Raises:
        ValueError: for a graph whose products can't all be counted.
    """
    return sum(_flops(operation) for operation in _needed(function.graph))


def _needed(graph: tf.Graph) -> set[tf.Operation]:
    """The operations on which outputs and assignments depend; TensorFlow runs no other."""
    waiting = [*(tensor.op for tensor in graph.outputs), *graph.control_outputs]
    needed = set()
    while waiting:
        operation = waiting.pop()
        if operation not in needed:
            needed.add(operation)
            waiting += [*(tensor.op for tensor in operation.inputs), *operation.control_inputs]
    return needed


def _flops(operation: tf.Operation) -> int:
    kind = operation.type
    if kind in _MATMULS:
        left = operation.inputs[0]
        contracted = left.shape[-2 if operation.get_attr(_MATMULS[kind]) else -1]
        return 2 * _size(operation.outputs[0], operation) * contracted
    if kind in ("Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter"):
        # The same products in all three: each pixel that the convolution answers times the kernel that it saw.
        kernel = operation.outputs[0] if kind == "Conv2DBackpropFilter" else operation.inputs[1]
        answer = operation.outputs[0] if kind == "Conv2D" else operation.inputs[2]
        _size(kernel, operation)
        return 2 * _size(answer, operation) * math.prod(kernel.shape[:3])
    calls = any(attribute.func.name or attribute.list.func for attribute in operation.node_def.attr.values())
    if calls or any(word in kind for word in ("MatMul", "Conv", "Einsum")):
        raise ValueError(f"{operation.name}: what a {kind} computes can't be counted")
    return 0


def _size(tensor: tf.Tensor, operation: tf.Operation) -> int:
    size = tensor.shape.num_elements()
    if size is None:
        raise ValueError(f"{operation.name}: a shape is unknown, {tensor.shape}")
    return size
