"""Frames between a parent and a worker: a JSON header, then raw arrays. Nothing is unpickled.

Frame: magic `b"BW1\\n"`, header length (uint32, big endian), header (JSON), then the bytes of each
array in C order. `header["arrays"]` has `[dtype, shape]` of each; only `DTYPES` are accepted.
"""

from __future__ import annotations

import asyncio
import json
import math
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

MAGIC = b"BW1\n"
DTYPES = ("uint8", "int64", "float32")
MAX_HEADER_BYTES = 1_000_000
MAX_ARRAY_BYTES = 1 << 31
MAX_SIDES = 8
# Unlike json.loads it rejects lone surrogates, which can't be encoded again.
HEADER = TypeAdapter(dict[str, Any])
_HEAD = struct.Struct(">4sI")

Array = npt.NDArray[Any]
Frame = tuple[dict[str, Any], list[Array]]
_Shape = tuple[np.dtype[Any], tuple[int, ...]]


class WireClosed(Exception):
    """The other side closed the connection, or sent something that is not a frame."""


class WireTimeout(Exception):
    """The deadline passed before the whole frame was sent or received."""


def frame(
    header: dict[str, Any], arrays: Sequence[Array | Sequence[Array]] = ()
) -> list[memoryview]:
    """The buffers of one frame, to be sent in order; the arrays are not copied.

    A sequence of arrays of one shape and dtype arrives as one array, stacked along a new axis 0.
    """
    described: list[tuple[str, list[int]]] = []
    blocks: list[Array] = []
    for array in arrays:
        parts = [array] if isinstance(array, np.ndarray) else list(array)
        shape = list(parts[0].shape)
        described.append(
            (str(parts[0].dtype), shape if isinstance(array, np.ndarray) else [len(parts), *shape])
        )
        blocks += (np.ascontiguousarray(part) for part in parts)
    text = json.dumps({**header, "arrays": described}).encode()
    return [
        memoryview(_HEAD.pack(MAGIC, len(text)) + text),
        *(block.reshape(-1).view(np.uint8).data for block in blocks),
    ]


class FrameConnection(asyncio.Protocol):
    """One end of a stream socket on an event loop. Responses arrive in the order of the posts.

    Args:
        max_bytes: Size limit of a received frame; a larger one closes the connection at its header.
    """

    def __init__(self, max_bytes: int = MAX_ARRAY_BYTES) -> None:
        self._max_bytes = max_bytes
        self._received = bytearray()
        self._pending: deque[asyncio.Future[Frame]] = deque()
        self.closed = False

    def receive(self) -> asyncio.Future[Frame]:
        """A future of the next frame; it fails with `WireClosed`."""
        pending: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        if self.closed:
            _fail(pending, "the other side closed the connection")
        else:
            self._pending.append(pending)
        return pending

    def post(
        self, header: dict[str, Any], arrays: Sequence[Array | Sequence[Array]] = ()
    ) -> asyncio.Future[Frame]:
        """Send one frame; a future of the response, which fails with `WireClosed`."""
        if not self.closed:
            self._transport.writelines(frame(header, arrays))
        return self.receive()

    def close(self) -> None:
        """Close the socket; pending receives fail with `WireClosed`."""
        self._transport.abort()
        self.connection_lost(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop with the next bytes."""
        self._received += data
        try:
            while (found := _whole(self._received, self._max_bytes)) is not None:
                header, shapes, start, size = found
                if size == len(self._received):  # the usual case: nothing is copied
                    whole, self._received = self._received, bytearray()
                else:
                    whole, self._received = self._received[:size], self._received[size:]
                if not self._pending:
                    raise WireClosed("the other side sent a frame that was not requested")
                pending = self._pending.popleft()
                if not pending.done():
                    pending.set_result((header, _views(whole, shapes, start)))
        except WireClosed as exc:
            self._transport.abort()
            self.connection_lost(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop at the end."""
        self.closed = True
        while self._pending:
            pending = self._pending.popleft()
            if not pending.done():
                _fail(pending, str(exc or "the other side closed the connection"))


def _fail(pending: asyncio.Future[Frame], text: str) -> None:
    pending.set_exception(WireClosed(text))
    # Retrieved, or asyncio would log it when the caller was cancelled before.
    pending.exception()


class Wire:
    """One end of a stream socket, with blocking calls that end at their deadline.

    A deadline is a time of `time.monotonic` in seconds; None: no limit.

    Args:
        connection: The socket.
        process: A pidfd of the other side. Its exit counts as a closed socket, even while a process
            that it forked keeps a copy of the socket open.
    """

    def __init__(self, connection: socket.socket, process: int | None = None) -> None:
        self._socket = connection
        self._socket.setblocking(False)
        self._process = process

    def send(
        self, header: dict[str, Any], arrays: Sequence[Array] = (), deadline: float | None = None
    ) -> None:
        """Send one frame.

        Raises:
            WireClosed, WireTimeout: See there.
        """
        for part in frame(header, arrays):
            self._write(part, deadline)

    def receive(self, deadline: float | None = None) -> Frame:
        """Receive one frame.

        Raises:
            WireClosed, WireTimeout: See there.
        """
        size = _header_size(self._read(_HEAD.size, deadline))
        header, shapes = _header(self._read(size, deadline))
        return header, [_array(self._read(_size(*shape), deadline), *shape) for shape in shapes]

    def _write(self, view: memoryview, deadline: float | None) -> None:
        while view:
            try:
                view = view[self._socket.send(view, socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                self._wait(select.POLLOUT, deadline)
            except OSError as exc:
                raise WireClosed(str(exc)) from exc

    def _read(self, size: int, deadline: float | None) -> bytearray:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            try:
                count = self._socket.recv_into(view)
            except BlockingIOError:
                self._wait(select.POLLIN, deadline)
                continue
            except OSError as exc:
                raise WireClosed(str(exc)) from exc
            if count == 0:
                raise WireClosed("the other side closed the connection")
            view = view[count:]
        return data

    def _wait(self, event: int, deadline: float | None) -> None:
        poll = select.poll()
        poll.register(self._socket, event)
        if self._process is not None:
            poll.register(self._process, select.POLLIN)
        remaining = None if deadline is None else (deadline - time.monotonic()) * 1000
        if remaining is not None and remaining <= 0:
            raise WireTimeout
        ready = poll.poll(None if remaining is None else math.ceil(remaining))
        if not ready:
            raise WireTimeout
        if all(handle == self._process for handle, _ in ready):
            raise WireClosed("the other process ended")


def _whole(data: bytearray, max_bytes: int) -> tuple[dict[str, Any], list[_Shape], int, int] | None:
    """Header, arrays, start of the arrays and end of the first frame; None: it is incomplete."""
    if len(data) < _HEAD.size or len(data) < (
        start := _HEAD.size + _header_size(data[: _HEAD.size])
    ):
        return None
    header, shapes = _header(data[_HEAD.size : start])
    size = start + sum(_size(*shape) for shape in shapes)
    if size > max_bytes:
        raise WireClosed(f"a frame is too large: {size} bytes, and the limit is {max_bytes}")
    return (header, shapes, start, size) if len(data) >= size else None


def _views(data: bytearray, shapes: list[_Shape], start: int) -> list[Array]:
    """The arrays in `data` from `start` on, not copied."""
    arrays = []
    for dtype, shape in shapes:
        arrays.append(np.frombuffer(data, dtype, math.prod(shape), start).reshape(shape))
        start += _size(dtype, shape)
    return arrays


def _header_size(head: bytes | bytearray) -> int:
    magic, size = _HEAD.unpack(head)
    if magic != MAGIC or size > MAX_HEADER_BYTES:
        raise WireClosed("the other side sent something that is not a frame")
    return int(size)


def _header(text: bytes | bytearray) -> tuple[dict[str, Any], list[_Shape]]:
    """The header, and dtype and shape of each array after it."""
    try:
        header = HEADER.validate_json(text)
        return header, [_described(item) for item in header.pop("arrays")]
    except (ValueError, TypeError, KeyError) as exc:
        raise WireClosed(f"the other side sent a frame without a readable header ({exc})") from exc


def _size(dtype: np.dtype[Any], shape: Sequence[int]) -> int:
    return math.prod(shape) * dtype.itemsize


def _array(data: bytes | bytearray, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    return np.frombuffer(data, dtype=dtype).reshape(shape)


def _described(item: Any) -> _Shape:
    name, shape = item
    if name not in DTYPES or not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError(f"an array of {item!r:.80}")
    dtype = np.dtype(name)
    # NumPy rejects shapes with many sides, and empty ones whose other sides are too large.
    if len(shape) > MAX_SIDES or _size(dtype, [side or 1 for side in shape]) > MAX_ARRAY_BYTES:
        raise ValueError(f"an array of {item!r:.80} is too large")
    return dtype, tuple(shape)
