"""The messages of ModelInfer: from a request to images, and from results to a response.

The images are in `raw_input_contents` as binary data, or in the `contents` of the input:
`bytes_contents` has files, `uint_contents` has pixels. Responses have `raw_output_contents`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from tritonclient.grpc import service_pb2

from bundle.worker.model_process import Pixels
from service.errors import MalformedRequest
from service.models.model import Target
from service.protocols import tensors
from service.protocols.inference import IMAGE, InferenceRequest, check_input
from service.protocols.tensors import InputTensor, Output

EXPECTED = "one input, `image` or `pixels`, and at most 16 outputs (docs/clients.md)"
# Parameters of inputs and outputs; others are ignored.
PARAMETERS = ("shared_memory_region", "classification")
# More than a valid request has, so that what is wrong with it is found.
MAX_DIMENSIONS, MAX_OUTPUTS = 9, 17


def document(message: Any) -> InferenceRequest:
    """What a request says, as the JSON document of HTTP says it.

    Raises:
        MalformedRequest: it says something else.
    """
    described: dict[str, Any] = {
        "inputs": [
            {
                "name": each.name,
                "datatype": each.datatype,
                "shape": list(each.shape[:MAX_DIMENSIONS]),
                "parameters": _parameters(each.parameters),
            }
            for each in message.inputs[:2]
        ],
        "outputs": [
            {"name": each.name, "parameters": _parameters(each.parameters)}
            for each in message.outputs[:MAX_OUTPUTS]
        ],
    }
    try:
        return msgspec.convert(described, InferenceRequest)
    except msgspec.ValidationError as exc:
        raise MalformedRequest(
            f"The request can't be read. Expected {EXPECTED}. Received: {exc}"
        ) from exc


def _parameters(found: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters with their values."""
    return {
        name: getattr(found[name], kind)
        for name in PARAMETERS
        if name in found and (kind := found[name].WhichOneof("parameter_choice"))
    }


def images(target: Target, tensor: InputTensor, message: Any) -> list[bytes] | list[Pixels]:
    """The images of a request: files, or pixels uint8 [H, W, 3].

    Raises:
        MalformedRequest: the name, the type, the shape or the data of the input is wrong.
    """
    check_input(target, tensor)
    raw, typed = message.raw_input_contents, message.inputs[0].HasField("contents")
    if len(raw) != (not typed):
        raise MalformedRequest(
            f"The input {tensor.name!r} needs its data once. Expected one element of "
            f"raw_input_contents, or contents. Received: {len(raw)} elements"
            f"{' and contents' if typed else ''}"
        )
    if not typed:
        data = memoryview(raw[0])
        if tensor.name == IMAGE:
            return tensors.read_files(tensor, data)
        return list(tensors.read_pixels(tensor, data))
    contents = message.inputs[0].contents
    name, values = (
        ("bytes_contents", contents.bytes_contents)
        if tensor.name == IMAGE
        else ("uint_contents", contents.uint_contents)
    )
    expected = math.prod(tensor.shape)
    if len(values) != expected:
        raise MalformedRequest(
            f"The data of the input {tensor.name!r} does not fit its shape {tensor.shape}. "
            f"Expected {expected} elements of {name}. Received: {len(values)}"
        )
    if tensor.name == IMAGE:
        return list(values)
    try:
        pixels = np.frombuffer(bytes(values), np.uint8)
    except ValueError as exc:
        raise MalformedRequest(
            f"The input {tensor.name!r} has a number that is no pixel. Expected 0 to 255. "
            f"Received: {max(values)}"
        ) from exc
    return list(pixels.reshape(tensor.shape))


def response(target: Target, identity: str, outputs: Sequence[Output]) -> Any:
    """The response to the request with this id."""
    return service_pb2.ModelInferResponse(
        model_name=target.model.name,
        model_version=str(target.model.version),
        id=identity,
        outputs=[
            service_pb2.ModelInferResponse.InferOutputTensor(**each.description) for each in outputs
        ],
        raw_output_contents=[each.data for each in outputs],
    )
