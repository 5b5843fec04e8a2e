"""Inference of the Open Inference Protocol v2: the request, its checks, and the response.

The input is `image`, BYTES [N] or [N, 1]: image files, which are decoded and resized as for
POST /predict. Or it is `pixels`, UINT8 [N, H, W, 3] of the model's input size. The outputs are
`logits` and `scores`, FP32 [N, C].
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from bundle.worker.model_process import Pixels
from service.api.json_body import JSON, decode_json, max_json_bytes
from service.api.uploads import OCTETS, Reservation, read_body
from service.errors import MalformedRequest
from service.models.model import Target
from service.protocols import calls, tensors, work
from service.protocols.tensors import InputTensor, Output
from service.protocols.work import Classified

IMAGE, PIXELS = "image", "pixels"
LOGITS, SCORES = "logits", "scores"
OUTPUTS = (LOGITS, SCORES)
# Where the JSON document ends and binary data begins.
HEADER_LENGTH = "Inference-Header-Content-Length"
EXPECTED = (
    f'an inference request with one input, {{"inputs": [{{"name": "{IMAGE}", '
    '"datatype": "BYTES", "shape": [1], "data": ["<base64>"]}]} (docs/clients.md)'
)


class OutputParameters(msgspec.Struct, gc=False):
    """Parameters of a requested output; others are ignored."""

    binary_data: bool | None = None
    classification: Annotated[int, msgspec.Meta(ge=0)] = 0


class RequestedOutput(msgspec.Struct, gc=False):
    """One output that the client wants."""

    name: str
    parameters: OutputParameters = msgspec.field(default_factory=OutputParameters)


class RequestParameters(msgspec.Struct):
    """Parameters of a request; others are ignored: there are no sequences and no priorities."""

    binary_data_output: bool = False


class InferenceRequest(msgspec.Struct):
    """The JSON document of a request; unknown fields are ignored, as the protocol asks."""

    inputs: tuple[InputTensor]
    id: str | None = None
    outputs: Annotated[list[RequestedOutput], msgspec.Meta(max_length=16)] | None = None
    parameters: RequestParameters = msgspec.field(default_factory=RequestParameters)


async def infer(request: Request) -> Response:
    """Classify the images of a request."""
    async with calls.admitted(request) as (target, reservation):
        document, binary = await _read(request, reservation)
        check_outputs(document)
        images = _images(target, document, binary)
        found = await calls.classify(request, target, images)
    outputs = results(target, document, found)
    head = {"model_name": target.model.name, "model_version": str(target.model.version)}
    if document.id is not None:
        head["id"] = document.id
    body, length = tensors.write(head, outputs)
    if length is None:
        return Response(body, media_type=JSON)
    return Response(body, media_type=OCTETS, headers={HEADER_LENGTH: str(length)})


async def _read(
    request: Request, reservation: Reservation
) -> tuple[InferenceRequest, memoryview | None]:
    """The document and the binary data after it; None: the header says that there is none.

    Raises:
        RequestTooLarge: the document or the body exceeds its limit.
        MalformedRequest: the document is not valid, or not as long as the header says.
    """
    settings = request.app.state.settings
    most = max_json_bytes(settings.max_image_bytes)
    header = request.headers.get(HEADER_LENGTH)
    if header is None:
        body = await read_body(request, reservation, most)
        return decode_json(body, InferenceRequest, EXPECTED), None
    body = await read_body(request, reservation, settings.max_request_bytes + most)
    length = int(header) if header.isdecimal() and len(header) < 10 else 0
    if not 0 < length <= min(len(body), most):
        raise MalformedRequest(
            f"{HEADER_LENGTH} is wrong. Expected the length of the JSON document, 1 to "
            f"{min(len(body), most)} bytes. Received: {header[:100]!r}"
        )
    view = memoryview(body)
    return decode_json(view[:length], InferenceRequest, EXPECTED), view[length:]


def check_outputs(document: InferenceRequest) -> None:
    """Check the names of the outputs that the client wants.

    Raises:
        MalformedRequest: there is no such output.
    """
    for output in document.outputs or ():
        if output.name not in OUTPUTS:
            raise MalformedRequest(
                f"There is no output of this name. Expected one of: {', '.join(OUTPUTS)}. "
                f"Received: {output.name[:100]!r}"
            )


def results(target: Target, document: InferenceRequest, found: Classified) -> list[Output]:
    """The outputs that the client wants, or all."""
    values = {
        LOGITS: np.stack([each.logits for each in found.images]),
        SCORES: found.scores.astype(np.float32),
    }
    labels = target.manifest.labels
    outputs = []
    for output in document.outputs or [RequestedOutput(name) for name in OUTPUTS]:
        tensor, chosen = values[output.name], output.parameters
        as_binary = (
            document.parameters.binary_data_output
            if chosen.binary_data is None
            else chosen.binary_data
        )
        k = min(chosen.classification, len(labels))
        shown = tensors.classes(tensor, labels, k) if k else tensor
        outputs.append(Output(output.name, shown, as_binary))
    return outputs


def _images(
    target: Target, document: InferenceRequest, binary: memoryview | None
) -> list[bytes] | list[Pixels]:
    """The images of a request: files, or pixels uint8 [H, W, 3].

    Raises:
        MalformedRequest: the name, the type, the shape or the data of the input is wrong.
    """
    (tensor,) = document.inputs
    size = tensor.parameters.binary_data_size
    check_input(target, tensor)
    if size is None and not bytes(memoryview(tensor.data)[:1]):
        raise MalformedRequest(
            f"The input {tensor.name[:100]!r} has no data. Expected `data`, or the parameter "
            f"`binary_data_size` and the header {HEADER_LENGTH}."
        )
    if (size or 0) != len(binary or b""):
        raise MalformedRequest(
            f"The input {tensor.name[:100]!r} has another size than the binary data of the body. "
            f"Expected {len(binary or b'')} bytes. Received: binary_data_size {size}"
        )
    data = None if size is None else binary
    if tensor.name == IMAGE:
        return tensors.read_files(tensor, data)
    return list(tensors.read_pixels(tensor, data))


def check_input(target: Target, tensor: InputTensor) -> None:
    """Check what a request says about its input, before its data is read.

    Raises:
        MalformedRequest: the name, the type or the shape is wrong, or the data is elsewhere.
    """
    if tensor.parameters.shared_memory_region is not None:
        raise MalformedRequest(
            "This service does not read shared memory. Expected the data in the request."
        )
    shape, model_input = tensor.shape, target.manifest.input
    geometry = [model_input.height, model_input.width, 3]
    if tensor.name == IMAGE:
        fits = tensor.datatype == "BYTES" and (len(shape) == 1 or shape[1:] == [1])
    elif tensor.name == PIXELS:
        fits = tensor.datatype == "UINT8" and shape[1:] == geometry
    else:
        fits = False
    if not fits:
        raise MalformedRequest(
            f"The input does not fit the model. Expected {IMAGE!r}, BYTES [N] or [N, 1], or "
            f"{PIXELS!r}, UINT8 {['N', *geometry]}. "
            f"Received: {tensor.name[:100]!r}, {tensor.datatype[:20]} {shape}".replace("'N'", "N")
        )
    work.check_count(target, shape[0])
