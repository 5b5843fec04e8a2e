"""Small ONNX files, encoded by hand: the package onnx is not installed.

The network is a 1x1 convolution, ReLU, global average pooling and one linear layer, with the fields
of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from tests.bundle.importing.pixels import IMAGENET, pixels, scaled

SIZE = 16
_FLOAT, _INT64 = 1, 7


def _varint(value: int) -> bytes:
    found = b""
    while value > 127:
        found += bytes([value & 127 | 128])
        value >>= 7
    return found + bytes([value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _part(field: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _tensor(name: str, values: npt.NDArray[np.float32] | npt.NDArray[np.int64]) -> bytes:
    kind = _FLOAT if values.dtype == np.float32 else _INT64
    dims = b"".join(_number(1, side) for side in values.shape)
    return dims + _number(2, kind) + _part(8, name) + _part(9, values.tobytes())


def _node(operation: str, inputs: list[str], output: str) -> bytes:
    return b"".join(_part(1, each) for each in inputs) + _part(2, output) + _part(4, operation)


def _value(name: str, shape: list[int | str]) -> bytes:
    dims = b"".join(
        _part(1, _number(1, side) if isinstance(side, int) else _part(2, side)) for side in shape
    )
    return _part(1, name) + _part(2, _part(1, _number(1, _FLOAT) + _part(2, dims)))


def write_colours(path: Path) -> None:
    """Write a network that tells `tests.tiny_networks.LABELS` apart, of values from 0 to 1."""
    colours = (1.5 * np.eye(3)[::-1] - 0.5).astype(np.float32)  # blue, green, red
    write_onnx(path, weights=(colours[:, :, None, None], 4 * np.eye(3, dtype=np.float32)))


def write_onnx(
    path: Path,
    *,
    images: int | None = None,
    weights: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None = None,
) -> None:
    """Write `path`, and its logits of `pixels(SIZE)` as `path` with `.npy`.

    Args:
        path: The file.
        images: The only number of images that the graph takes; None: any.
        weights: Of the convolution [F, 3, 1, 1] and the linear layer [F, 3]; None: random.
    """
    generator = np.random.default_rng(3)
    convolution, linear = weights or (
        generator.normal(size=(8, 3, 1, 1)).astype(np.float32),
        generator.normal(size=(8, 3)).astype(np.float32),
    )
    shape = np.array([images or -1, len(linear)], np.int64)
    last = np.array([images or -1, 3], np.int64)
    nodes = [
        _node("Conv", ["image", "convolution"], "a"),
        _node("Relu", ["a"], "b"),
        _node("GlobalAveragePool", ["b"], "c"),
        _node("Reshape", ["c", "shape"], "d"),
        _node("MatMul", ["d", "linear"], "e"),
        _node("Reshape", ["e", "last"], "scores"),
    ]
    graph = b"".join(_part(1, node) for node in nodes) + _part(2, "network")
    tensors = (("convolution", convolution), ("linear", linear), ("shape", shape), ("last", last))
    graph += b"".join(_part(5, _tensor(name, values)) for name, values in tensors)
    first: int | str = images or "n"
    graph += _part(11, _value("image", [first, 3, SIZE, SIZE]))
    graph += _part(12, _value("scores", [first, 3]))
    opset = _part(8, _part(1, "") + _number(2, 17))
    path.write_bytes(_number(1, 8) + _part(2, "tests") + _part(7, graph) + opset)

    x = scaled(pixels(SIZE), *IMAGENET)
    features = np.maximum(x @ convolution[:, :, 0, 0].T, 0).mean((1, 2))
    np.save(f"{path}.npy", features @ linear)
