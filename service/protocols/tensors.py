"""Tensors of the Open Inference Protocol: JSON or binary, to images and back.

Binary data follows the JSON document in the body, little-endian and row-major. An element of BYTES
is a length of 4 bytes and the bytes. In JSON the files of BYTES are strings in base64.

Source: the binary tensor data extension and the classification extension of Triton and KServe.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from itertools import chain
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from bundle.worker.model_process import Pixels
from service.api.json_body import check_strings, decode_json, from_base64
from service.errors import MalformedRequest

BYTE = Annotated[int, msgspec.Meta(ge=0, le=255)]
LENGTH = struct.Struct("<I")


class InputParameters(msgspec.Struct, gc=False):
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

    @property
    def description(self) -> dict[str, Any]:
        """Its name, type and shape."""
        values = self.values
        if isinstance(values, list):
            return {
                "name": self.name,
                "datatype": "BYTES",
                "shape": [len(values), len(values[0])],
            }
        return {"name": self.name, "datatype": "FP32", "shape": list(values.shape)}

    @property
    def data(self) -> bytes:
        """Its values as binary data."""
        if isinstance(self.values, list):
            elements = map(str.encode, chain.from_iterable(self.values))
            return b"".join(LENGTH.pack(len(each)) + each for each in elements)
        return self.values.astype("<f4").tobytes()


def read_pixels(tensor: InputTensor, binary: memoryview | None) -> Pixels:
    """Pixels uint8 of the shape that the input states.

    Args:
        tensor: The input; its shape is checked already.
        binary: Its data; None: it is in the JSON document.

    Raises:
        MalformedRequest: the data does not fit the shape.
    """
    if binary is None:
        data = bytes(memoryview(tensor.data))
        return json_pixels(data, tensor.shape, f"The input {tensor.name!r}")
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
        where = f"The input {tensor.name!r}"
        data, count = bytes(memoryview(tensor.data)), tensor.shape[0]
        check_strings(data, count, f"{where} with the shape {tensor.shape}")
        nested = depth(data) > 1
        texts = _listed(data, str, tensor.shape if nested else [count], where)
        if nested:
            texts = list(chain.from_iterable(texts))
        return [
            from_base64(text, f"{where}, image {number},")
            for number, text in enumerate(texts, start=1)
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


def json_pixels(data: bytes, shape: Sequence[int], where: str) -> Pixels:
    """Pixels uint8 of this shape, from JSON numbers in one list or in lists nested as it is.

    The numbers are moved into one list first: millions of small lists take seconds to decode.

    Args:
        data: The list.
        shape: Its shape.
        where: Its place in the request, for the error.

    Raises:
        MalformedRequest: the data does not fit the shape, or a number is not one of 0 to 255.
    """
    if depth(data) > 1:
        nesting = b""
        for size in reversed(shape):
            nesting = b"[%b]" % b",".join([nesting] * size)
        if data.translate(None, b"0123456789 \t\r\n") != nesting:
            raise MalformedRequest(
                f"{where} does not fit the shape {list(shape)}. Expected whole numbers from 0 to "
                "255, in lists nested as the shape is. "
                f"Received: {len(data)} bytes, {data[:40].decode(errors='replace')!r}"
            )
        data = b"[%b]" % data.translate(None, b"[]")
    return np.frombuffer(bytes(_listed(data, BYTE, [math.prod(shape)], where)), np.uint8).reshape(
        shape
    )


def depth(data: bytes) -> int:
    """The number of brackets that JSON data begins with."""
    begin = data[:64].translate(None, b" \t\r\n")
    return len(begin) - len(begin.lstrip(b"["))


def _listed(data: bytes, kind: Any, shape: Sequence[int], where: str) -> list[Any]:
    """JSON lists of exactly this shape."""
    for size in reversed(shape):
        kind = Annotated[list[kind], msgspec.Meta(min_length=size, max_length=size)]
    found: list[Any] = decode_json(data, kind, f"{where} with the shape {list(shape)}")
    return found


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
        tensor = output.description
        if output.binary:
            blob = output.data
            tensor["parameters"] = {"binary_data_size": len(blob)}
            blobs.append(blob)
        elif isinstance(values, list):
            tensor["data"] = list(chain.from_iterable(values))
        else:
            tensor["data"] = values.ravel().tolist()
        described.append(tensor)
    text = msgspec.json.encode({**document, "outputs": described})
    return b"".join([text, *blobs]), len(text) if blobs else None
