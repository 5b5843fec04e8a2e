"""Image files out of a request body: a multipart form or the raw image; counted while they arrive, never on disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from service.api.problems import ClientGone
from service.errors import MalformedRequest, QueueFull, RequestTooLarge, UnsupportedMediaType

FORM = "multipart/form-data"
OCTETS = "application/octet-stream"
FORM_OVERHEAD = 65_536  # bytes of boundaries, part headers and small fields, beside the files
MOST_FIELDS = 100  # form fields that are no files


class Upload(NamedTuple):
    """One file as it was sent."""

    filename: str | None
    data: bytes


class Memory:
    """Bounds what the bodies of all requests hold together; each alone is bounded, and there can be many."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held = 0

    @contextmanager
    def hold(self) -> Iterator[Share]:
        """The share of one request, given back at its end."""
        share = Share(self)
        try:
            yield share
        finally:
            self._held -= share.held

    def take(self, count: int) -> None:
        """Count `count` bytes more, or raise `QueueFull`."""
        if self._held + count > self._max_bytes:
            raise QueueFull(
                f"The requests under way hold {self._held} bytes, and {self._max_bytes} are the most. "
                "Send this one again a little later."
            )
        self._held += count


class Share:
    """What one request holds of the memory."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.held = 0

    def take(self, count: int) -> None:
        """Count `count` bytes more, or raise `QueueFull`."""
        self._memory.take(count)
        self.held += count


class _InMemory(MultiPartParser):
    """Files stay in memory: the size of the whole body is bounded, and the root file system may be read-only."""

    spool_max_size = 2**62
    ended = False

    def on_end(self) -> None:
        """Called at the closing boundary, without which the rest of the form is missing."""
        self.ended = True


async def read_image(request: Request, share: Share, max_bytes: int) -> Upload:
    """The image of a request: the field `file` of a form, or the raw body.

    Raises:
        UnsupportedMediaType: neither.
        RequestTooLarge: the body is over `max_bytes`, by its declared length or while it is read.
        MalformedRequest: a form that is none, without that field, or an empty body.
        QueueFull: the requests under way hold as much as they may.
    """
    kind = _content_type(request)
    if kind == FORM:
        files = await _form_files(request, share, "file", max_bytes + FORM_OVERHEAD, most=1)
        return files[0]
    if kind != OCTETS and not kind.startswith("image/"):
        raise _unsupported(
            kind, "or the image itself as the body with an image content type (image/jpeg, ...)"
        )
    data = bytearray()
    try:
        async for chunk in _bounded(request, share, max_bytes).stream():
            data += chunk
    except ClientDisconnect as exc:
        raise ClientGone from exc
    if not data:
        raise MalformedRequest(f"The body is empty. Expected an image. Received: 0 bytes of {kind}")
    return Upload(None, bytes(data))


async def read_images(
    request: Request, share: Share, max_bytes: int, max_files: int
) -> list[Upload]:
    """The files of a form, all in fields called `files`, in their order.

    Raises:
        UnsupportedMediaType, RequestTooLarge, MalformedRequest, QueueFull: as `read_image`.
    """
    kind = _content_type(request)
    if kind != FORM:
        raise _unsupported(kind, "with one field `files` for each image")
    return await _form_files(request, share, "files", max_bytes, most=max_files)


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _unsupported(kind: str, else_expected: str) -> UnsupportedMediaType:
    return UnsupportedMediaType(
        f"The content type of the request is not supported. Expected {FORM}, {else_expected}. "
        f"Received: {kind[:100] or 'none'}"
    )


async def _form_files(
    request: Request, share: Share, field: str, max_bytes: int, most: int
) -> list[Upload]:
    bounded = _bounded(request, share, max_bytes)
    try:
        parser = _InMemory(
            request.headers, bounded.stream(), max_files=most + 1, max_fields=MOST_FIELDS
        )
        form = await parser.parse()
    except ClientDisconnect as exc:
        raise ClientGone from exc
    except (MultiPartException, FormParserError, HTTPException, KeyError, UnicodeError) as exc:
        if "Too many files" in str(exc):
            raise _too_many(most) from exc
        reason = getattr(exc, "message", None) or str(exc) or type(exc).__name__
        raise MalformedRequest(
            f"The body is not the {FORM} that its content type says. Expected parts between the boundary that the "
            f"content type names, as `curl -F {field}=@photo.jpg` makes them. Received: {reason}"
        ) from exc
    async with _closing(form):
        if not parser.ended:
            raise MalformedRequest(
                "The form ends before its closing boundary. Expected the whole form; send it again. "
                f"Received: {len(form.multi_items())} whole parts"
            )
        uploads = []
        for name, value in form.multi_items():
            if name != field:
                raise MalformedRequest(
                    f"The form has an unknown field. Expected only {field!r}. Received: {name[:100]!r}"
                )
            if not isinstance(value, UploadFile):
                raise MalformedRequest(
                    f"The form field {field!r} is text. Expected a file, with a file name."
                )
            uploads.append(Upload(value.filename, await value.read()))
    if not uploads:
        raise MalformedRequest(f"The form has no file. Expected a file in the field {field!r}.")
    if len(uploads) > most:
        raise _too_many(most)
    return uploads


def _too_many(most: int) -> MalformedRequest:
    elsewhere = (
        "; /predict/batch takes several" if most == 1 else "; send the others in another request"
    )
    return MalformedRequest(f"The form has too many files. Expected at most {most}{elsewhere}.")


class _closing:  # noqa: N801 - reads as contextlib.aclosing does
    """Closes the files of a form."""

    def __init__(self, form: FormData) -> None:
        self._form = form

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *exc: object) -> None:
        await self._form.close()


def _bounded(request: Request, share: Share, max_bytes: int) -> Request:
    """The same request, whose body can't exceed `max_bytes` and is counted in `share`.

    Raises:
        RequestTooLarge: at once when the declared length is over the limit, or later when the body is.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise _too_large(max_bytes, f"{declared} bytes")
    received = 0

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        size = len(message.get("body", b""))
        received += size
        if received > max_bytes:
            raise _too_large(max_bytes, f"more than {max_bytes} bytes")
        share.take(size)
        return message

    return Request(request.scope, receive)


def _too_large(max_bytes: int, received: str) -> RequestTooLarge:
    return RequestTooLarge(
        f"The request is too large. Expected a body of at most {max_bytes} bytes; send less. "
        f"Received: {received}"
    )
