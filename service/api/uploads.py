"""Image files from a request body: a multipart form, the raw image, or JSON with base64.

Bodies are counted while they arrive and never written to disk.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from service.access.key import CURRENT, Key
from service.api.headers import ENCODING, refuse_compressed
from service.api.json_body import JSON, ImageDocument, decode_json, from_base64, max_json_bytes
from service.api.problems import ClientGone
from service.errors import MalformedRequest, QueueFull, RequestTooLarge, UnsupportedMediaType

FORM = "multipart/form-data"
OCTETS = "application/octet-stream"
# Content types of a raw body that say nothing about it: the first bytes decide. The second one is
# what curl sends for `--data-binary`, the last one SageMaker's.
UNTYPED = {"", "application/x-www-form-urlencoded", OCTETS, "application/x-image"}
# Bytes of boundaries, part headers and small fields, in addition to the files.
FORM_OVERHEAD = 65_536
# Form fields that are not files.
MAX_FIELDS = 100


class Upload(NamedTuple):
    """One file as it was sent."""

    filename: str | None
    data: bytes


class BodyBudget:
    """Bounds the memory of all request bodies together: their number is not bounded.

    The client of an API key may have as much of it as it leaves free, so that others find some.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._reserved = 0
        self._of_key: Counter[Key] = Counter()

    @contextmanager
    def reserve(self) -> Iterator[Reservation]:
        """The reservation of one request, empty at first and released at its end."""
        reservation = Reservation(self, CURRENT.get())
        try:
            yield reservation
        finally:
            self._take(-reservation.reserved, reservation.key)

    def take(self, count: int, key: Key | None) -> None:
        """Reserve `count` bytes for a client.

        Raises:
            QueueFull: the budget is used up, or the part that the client may have.
        """
        free = self._max_bytes - self._reserved
        if count > free or (key is not None and self._of_key[key] + count > free):
            raise QueueFull(
                f"The bodies of the requests in flight take {self._reserved} of at most "
                f"{self._max_bytes} bytes{' of which others need some' if key else ''}. "
                "Send this request again a little later."
            )
        self._take(count, key)

    def _take(self, count: int, key: Key | None) -> None:
        self._reserved += count
        if key is not None:
            self._of_key[key] += count
            if not self._of_key[key]:
                del self._of_key[key]


class Reservation:
    """Bytes that one request has reserved."""

    def __init__(self, budget: BodyBudget, key: Key | None) -> None:
        self._budget = budget
        self.key = key
        self.reserved = 0

    def take(self, count: int) -> None:
        """Reserve `count` bytes more.

        Raises:
            QueueFull: the budget is used up.
        """
        self._budget.take(count, self.key)
        self.reserved += count


class _InMemory(MultiPartParser):
    """Keeps files in memory: the body is bounded, and the root file system may be read-only."""

    spool_max_size = 2**62
    ended = False

    def on_end(self) -> None:
        """Called at the closing boundary; without it the rest of the form is missing."""
        self.ended = True


async def read_image(
    request: Request, reservation: Reservation, max_bytes: int, field: str = "file"
) -> Upload:
    """The image of a request: a field of a form, the raw body, or JSON.

    Args:
        request: Its body is read.
        reservation: Of the request.
        max_bytes: Of the image.
        field: The name of the field.

    Raises:
        UnsupportedMediaType: the content type is none of them, or the body is compressed.
        RequestTooLarge: the body exceeds its limit, by its declared length or while it is read.
        MalformedRequest: the form or the JSON is invalid or lacks the field, or the body is empty.
        QueueFull: the budget for bodies is used up.
    """
    if ENCODING in request.headers:
        refuse_compressed(request)
    kind = content_type(request)
    if kind == FORM:
        limit = max_bytes + FORM_OVERHEAD
        files = await _form_files(request, reservation, field, limit, max_files=1)
        return files[0]
    if kind == JSON:
        data = await read_body(request, reservation, max_json_bytes(max_bytes))
        document = decode_json(data, ImageDocument, 'an object {"image": "<base64>"}')
        return Upload(None, from_base64(document.image, "The field 'image'"))
    if kind not in UNTYPED and not kind.startswith("image/"):
        raise _unsupported(
            kind,
            "or the image itself as the body with an image content type (image/jpeg, ...) or none, "
            f'or {JSON} with {{"image": "<base64>"}}',
        )
    return Upload(None, await read_body(request, reservation, max_bytes))


async def read_body(request: Request, reservation: Reservation, max_bytes: int) -> bytes:
    """The whole body of a request.

    Raises:
        RequestTooLarge: it exceeds `max_bytes`, by its declared length or while it is read.
        MalformedRequest: it is empty.
        QueueFull: the budget for bodies is used up.
    """
    data = bytearray()
    try:
        async for chunk in _bounded(request, reservation, max_bytes).stream():
            data += chunk
    except ClientDisconnect as exc:
        raise ClientGone from exc
    if not data:
        raise MalformedRequest(
            "The body is empty. Expected an image. "
            f"Received: 0 bytes of {content_type(request) or 'no content type'}"
        )
    return bytes(data)


async def read_images(
    request: Request, reservation: Reservation, max_bytes: int, max_files: int
) -> list[Upload]:
    """The files of a form in their order, all in fields named `files`.

    Raises:
        UnsupportedMediaType, RequestTooLarge, MalformedRequest, QueueFull: as `read_image`.
    """
    if ENCODING in request.headers:
        refuse_compressed(request)
    kind = content_type(request)
    if kind != FORM:
        raise _unsupported(kind, "with one field `files` for each image")
    return await _form_files(request, reservation, "files", max_bytes, max_files)


def content_type(request: Request) -> str:
    """The content type of a request without its parameters; empty: there is none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _unsupported(kind: str, else_expected: str) -> UnsupportedMediaType:
    return UnsupportedMediaType(
        f"The content type of the request is not supported. Expected {FORM}, {else_expected}. "
        f"Received: {kind[:100] or 'none'}"
    )


async def _form_files(
    request: Request, reservation: Reservation, field: str, max_bytes: int, max_files: int
) -> list[Upload]:
    bounded = _bounded(request, reservation, max_bytes)
    try:
        parser = _InMemory(
            request.headers, bounded.stream(), max_files=max_files + 1, max_fields=MAX_FIELDS
        )
        form = await parser.parse()
    except ClientDisconnect as exc:
        raise ClientGone from exc
    except (MultiPartException, FormParserError, HTTPException, KeyError, UnicodeError) as exc:
        if "Too many files" in str(exc):
            raise _too_many(max_files) from exc
        reason = getattr(exc, "message", None) or str(exc) or type(exc).__name__
        raise MalformedRequest(
            f"The body is not valid {FORM}. Expected parts separated by the boundary that the "
            f"content type names, as sent by `curl -F {field}=@photo.jpg`. Received: {reason}"
        ) from exc
    async with _closing(form):
        if not parser.ended:
            raise MalformedRequest(
                "The form ends before its closing boundary. Expected the whole form; send it "
                f"again. Received: {len(form.multi_items())} complete parts"
            )
        uploads = []
        for name, value in form.multi_items():
            if name != field:
                raise MalformedRequest(
                    f"The form has an unknown field. Expected only {field!r}. "
                    f"Received: {name[:100]!r}"
                )
            if not isinstance(value, UploadFile):
                raise MalformedRequest(
                    f"The form field {field!r} is text. Expected a file, with a file name."
                )
            uploads.append(Upload(value.filename, await value.read()))
    if not uploads:
        raise MalformedRequest(f"The form has no file. Expected a file in the field {field!r}.")
    if len(uploads) > max_files:
        raise _too_many(max_files)
    return uploads


def _too_many(max_files: int) -> MalformedRequest:
    hint = (
        "use /predict/batch for several" if max_files == 1 else "send the rest in another request"
    )
    return MalformedRequest(f"The form has too many files. Expected at most {max_files}; {hint}.")


class _closing:  # noqa: N801 - reads as contextlib.aclosing does
    """Closes the files of a form."""

    def __init__(self, form: FormData) -> None:
        self._form = form

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *exc: object) -> None:
        await self._form.close()


def _bounded(request: Request, reservation: Reservation, max_bytes: int) -> Request:
    """The same request with its body limited to `max_bytes` and counted in `reservation`.

    Raises:
        RequestTooLarge: at once when the declared length exceeds the limit, or when the body does.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise _too_large(max_bytes, f"{declared} bytes")
    received = 0
    state = request.scope.setdefault("state", {})

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        size = len(message.get("body", b""))
        state["bytes_in"] = received = received + size
        state["received_at"] = time.perf_counter()
        if received > max_bytes:
            raise _too_large(max_bytes, f"more than {max_bytes} bytes")
        reservation.take(size)
        return message

    return Request(request.scope, receive)


def _too_large(max_bytes: int, received: str) -> RequestTooLarge:
    return RequestTooLarge(
        f"The request is too large. Expected a body of at most {max_bytes} bytes; send less. "
        f"Received: {received}"
    )
