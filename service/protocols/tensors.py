"""Tensors of the Open Inference Protocol: JSON or binary, to images and back.

Binary data follows the JSON document in the body, little-endian and row-major. An element of BYTES
is a length of 4 bytes and the bytes. In JSON the files of BYTES are strings in base64.

Source: the binary tensor data extension and the classification extension of Triton and KServe.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from bundle.worker.model_process import Pixels
from service.api.json_body import decode_json, from_base64
from service.errors import MalformedRequest

BYTE = Annotated[int, msgspec.Meta(ge=0, le=255)]
LENGTH = struct.Struct("<I")


class InputParameters(msgspec.Struct):
    """Parameters of an input; others are ignored."""

    binary_data_size: Annotated[int, msgspec.Meta(ge=0)] | None = None
    shared_memory_region: str | None = None


class InputTensor(msgspec.Struct):
    """One input of a request; its data is JSON that is not decoded yet, or empty."""

    name: str
    datatype: str
    shape: Annotated[list[Annotated[int, msgspec.Meta(ge=0)]], msgspec.Meta(max_length=8)]
    data: msgspec.Raw = msgspec.Raw()
    parameters: InputParameters = msgspec.field(default_factory=InputParameters)


class Output(NamedTuple):
    """One output of a response: a tensor, or strings [N, K]."""

    name: str
    values: npt.NDArray[np.float32] | list[list[str]]
    binary: bool


def read_pixels(tensor: InputTensor, binary: memoryview | None) -> Pixels:
    """Pixels uint8 of the shape that the input states.

    Args:
        tensor: The input; its shape is checked already.
        binary: Its data; None: it is in the JSON document.

    Raises:
        MalformedRequest: the data does not fit the shape.
    """
    if binary is None:
        flat = bytes(_elements(tensor, BYTE))
        return np.frombuffer(flat, np.uint8).reshape(tensor.shape)
    expected = math.prod(tensor.shape)
    if len(binary) != expected:
        raise MalformedRequest(
            f"The binary data of the input {tensor.name!r} does not fit its shape {tensor.shape}. "
            f"Expected {expected} bytes. Received: {len(binary)}"
        )
    return np.frombuffer(binary, np.uint8).reshape(tensor.shape)


def read_files(tensor: InputTensor, binary: memoryview | None) -> list[bytes]:
    """Files, as many as the shape states. Arguments and errors are those of `read_pixels`."""
    if binary is None:
        return [
            from_base64(text, f"Image {number} of the input {tensor.name!r}")
            for number, text in enumerate(_elements(tensor, str), start=1)
        ]
    files: list[bytes] = []
    position, count = 0, math.prod(tensor.shape)
    while position + LENGTH.size <= len(binary) and len(files) < count:
        (size,) = LENGTH.unpack_from(binary, position)
        position += LENGTH.size
        files.append(bytes(binary[position : position + size]))
        position += size
    if position != len(binary) or len(files) != count:
        raise MalformedRequest(
            f"The binary data of the input {tensor.name!r} does not fit its shape {tensor.shape}. "
            f"Expected {count} times a length (4 bytes, little-endian) and as many bytes. "
            f"Received: {len(binary)} bytes, in which {len(files)} lengths reach byte {position}"
        )
    return files


def _elements(tensor: InputTensor, kind: Any) -> Iterable[Any]:
    """The elements of JSON data in their order: flat, or nested as the shape is."""
    nested = _depth(tensor.data) > 1
    shape = tensor.shape if nested else [math.prod(tensor.shape)]
    for size in reversed(shape):
        kind = Annotated[list[kind], msgspec.Meta(min_length=size, max_length=size)]
    expected = f"the data of the input {tensor.name!r}, of shape {shape}"
    elements: Iterable[Any] = decode_json(memoryview(tensor.data), kind, expected)
    for _ in shape[1:]:
        elements = chain.from_iterable(elements)
    return elements


def _depth(data: msgspec.Raw) -> int:
    """The number of brackets that JSON data begins with."""
    begin = bytes(memoryview(data)[:64])
    text = begin.translate(None, b" \t\r\n")
    return len(text) - len(text.lstrip(b"["))


def classes(values: npt.NDArray[Any], labels: Sequence[str], k: int) -> list[list[str]]:
    """The `k` best classes of each row [N, C], best first, as `value:index:label`."""
    order = np.argsort(-values, axis=-1, kind="stable")[:, :k]
    return [
        [f"{row[index]:f}:{index}:{labels[index]}" for index in best]
        for row, best in zip(values, order, strict=True)
    ]


def write(document: dict[str, Any], outputs: Sequence[Output]) -> tuple[bytes, int | None]:
    """The body of a response, and the length of its JSON document if binary data follows it."""
    blobs: list[bytes] = []
    described = []
    for output in outputs:
        values = output.values
        tensor: dict[str, Any] = {"name": output.name}
        if isinstance(values, list):
            tensor |= {"datatype": "BYTES", "shape": [len(values), len(values[0])]}
            flat: list[Any] = list(chain.from_iterable(values))
        else:
            tensor |= {"datatype": "FP32", "shape": list(values.shape)}
            flat = [] if output.binary else values.ravel().tolist()
        if output.binary:
            blob = (
                b"".join(LENGTH.pack(len(each)) + each for each in map(str.encode, flat))
                if isinstance(values, list)
                else values.astype("<f4").tobytes()
            )
            tensor["parameters"] = {"binary_data_size": len(blob)}
            blobs.append(blob)
        else:
            tensor["data"] = flat
        described.append(tensor)
    text = msgspec.json.encode({**document, "outputs": described})
    return b"".join([text, *blobs]), len(text) if blobs else None
