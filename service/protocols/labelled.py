"""Answers of labels with scores: Hugging Face, SageMaker and TorchServe.

Hugging Face   POST /  POST /models/NAME   image, or {"inputs": base64} → [{"label", "score"}]
SageMaker      POST /invocations           the same, as its Hugging Face containers do
TorchServe     POST /predictions/NAME      image, or the form field `data` → {label: score}
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from starlette.requests import Request
from starlette.responses import Response

from bundle.scores import top_k
from service.api.json_body import JSON, decode_json, from_base64, max_json_bytes
from service.api.responses import check_ready
from service.api.uploads import Reservation, content_type, read_body, read_image
from service.protocols import calls

DEFAULT_TOP_K = 5
Function = Literal["softmax", "sigmoid", "none"]


class Parameters(msgspec.Struct, forbid_unknown_fields=True):
    """Parameters of Hugging Face's task image-classification."""

    top_k: Annotated[int, msgspec.Meta(ge=1)] | None = None
    function_to_apply: Function | None = None


class Inputs(msgspec.Struct, forbid_unknown_fields=True):
    """The JSON body of Hugging Face's task image-classification."""

    inputs: str
    parameters: Parameters | None = None


class Image(NamedTuple):
    """An image file and what is asked about it."""

    data: bytes
    parameters: Parameters


async def hugging_face(request: Request) -> Response:
    """The best classes of one image, best first: `[{"label", "score"}]`."""
    best = await _best(request, _read_inputs)
    return calls.answer([{"label": each["label"], "score": each["score"]} for each in best])


async def torchserve(request: Request) -> Response:
    """The best classes of one image: `{label: score}`, as TorchServe's image_classifier does."""
    best = await _best(request, _read_data)
    return calls.answer({each["label"]: each["score"] for each in best})


async def ping(request: Request) -> Response:
    """Whether requests can be served, for SageMaker and TorchServe."""
    check_ready(request.app.state)
    return calls.answer({"status": "Healthy"})


async def _best(request: Request, read: Callable[[Request, Reservation, int], Any]) -> list[Any]:
    """The predictions for the image that `read` finds in the request."""
    most = request.app.state.settings.max_image_bytes
    async with calls.admitted(request) as (target, reservation):
        image: Image = await read(request, reservation, most)
        found = await calls.classify(request, target, [image.data])
    scores: npt.NDArray[np.float64] = found.images[0].logits.astype(np.float64)
    match image.parameters.function_to_apply:
        case "none":
            pass
        case "sigmoid":
            scores = 1 / (1 + np.exp(-scores))
        case _:
            scores = found.scores[0]
    return list(top_k(scores, target.manifest.labels, image.parameters.top_k or DEFAULT_TOP_K))


async def _read_inputs(request: Request, reservation: Reservation, max_bytes: int) -> Image:
    if content_type(request) != JSON:
        upload = await read_image(request, reservation, max_bytes)
        return Image(upload.data, Parameters())
    body = await read_body(request, reservation, max_json_bytes(max_bytes))
    document = decode_json(body, Inputs, 'an object {"inputs": "<base64>"}')
    return Image(from_base64(document.inputs, "'inputs'"), document.parameters or Parameters())


async def _read_data(request: Request, reservation: Reservation, max_bytes: int) -> Image:
    upload = await read_image(request, reservation, max_bytes, field="data")
    return Image(upload.data, Parameters())
