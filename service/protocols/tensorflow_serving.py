"""TensorFlow Serving's REST API, which is Vertex AI's too: `instances` in, `predictions` out.

    {"instances": [{"b64": "..."}, ...]}            → {"predictions": [[0.1, ...], ...]}
    {"instances": [{"image": {"b64": "..."}}, ...]} → the same; the name of the input is free
    {"instances": [[[[r, g, b], ...]], ...]}        → the same, of pixels of the model's input size
    {"inputs": ...}                                 → {"outputs": [[0.1, ...], ...]}

The answer has the scores of all classes of each image, in the order of the labels.
"""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from bundle.worker.model_process import Pixels
from service.api.json_body import check_strings, decode_json, from_base64, max_json_bytes
from service.api.uploads import read_body
from service.errors import MalformedRequest
from service.models.model import State, Target
from service.protocols import calls, tensors, work

EXPECTED = '{"instances": [{"b64": "..."}, ...]}, or pixels in lists nested as the model\'s input'
STATES: dict[State, str] = {
    "loading": "LOADING",
    "ready": "AVAILABLE",
    "restarting": "AVAILABLE",  # requests wait
    "refused": "END",
}


class Body(msgspec.Struct):
    """The body of a prediction: by row (`instances`) or by column (`inputs`)."""

    instances: msgspec.Raw = msgspec.Raw()
    inputs: msgspec.Raw = msgspec.Raw()


async def status(request: Request) -> Response:
    """The state of a model or of one version."""
    model = work.find(calls.of(request))
    error = {"error_code": "OK", "error_message": ""}
    if model.state == "refused":
        error = {"error_code": "FAILED_PRECONDITION", "error_message": model.reason or ""}
    version = {"version": str(model.version), "state": STATES[model.state], "status": error}
    return calls.answer({"model_version_status": [version]})


async def predict(request: Request) -> Response:
    """The scores of all classes of each image."""
    most = max_json_bytes(request.app.state.settings.max_image_bytes)
    async with calls.admitted(request) as (target, reservation):
        body = decode_json(await read_body(request, reservation, most), Body, EXPECTED)
        by_row, by_column = (bytes(memoryview(part)) for part in (body.instances, body.inputs))
        if bool(by_row) == bool(by_column):
            raise MalformedRequest(
                "Expected either `instances` or `inputs`. "
                f"Received: {'both' if by_row else 'neither'}"
            )
        name, data = ("predictions", by_row) if by_row else ("outputs", by_column)
        found = await calls.classify(request, target, _images(target, data))
    return calls.answer({name: found.scores.tolist()})


def _images(target: Target, data: bytes) -> list[bytes] | list[Pixels]:
    """Files, or pixels uint8 [H, W, 3].

    Raises:
        MalformedRequest: the data is neither, or there are none or too many.
    """
    data = data.strip()
    check_strings(data, 3 * target.model.settings.batch_files + 1, EXPECTED)
    if data.startswith(b"{"):
        # By column: `{"NAME": [...]}`; or one file, `{"b64": ...}`.
        columns = decode_json(data, dict[str, msgspec.Raw], EXPECTED)
        if len(columns) != 1:
            raise MalformedRequest(f"Expected one input. Received: {', '.join(columns)[:100]}")
        ((name, column),) = columns.items()
        inner = bytes(memoryview(column)).strip()
        if name != "b64" and inner.startswith((b"[", b'{"b64"')):
            return _images(target, inner)
        data = b"[%b]" % data
    if tensors.depth(data) > 1:
        height, width = target.manifest.input.height, target.manifest.input.width
        count = (data.count(b",") + 1) // (height * width * 3)
        work.check_count(target, count)
        return list(tensors.json_pixels(data, [count, height, width, 3], "The list of pixels"))
    rows = decode_json(data, list[dict[str, str | dict[str, str]]], EXPECTED)
    work.check_count(target, len(rows))
    return [_file(row, f"Image {number}") for number, row in enumerate(rows, start=1)]


def _file(row: dict[str, str | dict[str, str]], where: str) -> bytes:
    """The file of `{"b64": ...}` or `{"NAME": {"b64": ...}}`."""
    (value, *more) = row.values() or [""]
    if isinstance(value, dict):
        row = dict(value)
    text = row.get("b64")
    if more or len(row) != 1 or not isinstance(text, str):
        raise MalformedRequest(
            f'{where} is no file. Expected {{"b64": "..."}} or {{"NAME": {{"b64": "..."}}}}. '
            f"Received: an object with {', '.join(row)[:100] or 'nothing'}"
        )
    return from_base64(text, where)
