"""Frames between a parent and a worker: a JSON header, then raw arrays. Nothing is unpickled.

Frame: magic `b"BW1\\n"`, header length (uint32, big endian), header (JSON), then the bytes of each
array in C order. `header["arrays"]` has `[dtype, shape]` of each; only `DTYPES` are accepted. A
response repeats the `id` of its request; the first frame of a worker, which says that it is ready,
has none.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import socket
import struct
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


def frame(header: dict[str, Any], arrays: Sequence[Array] = ()) -> list[memoryview]:
    """The buffers of one frame, to be sent in order; contiguous arrays are not copied."""
    described = [(str(array.dtype), list(array.shape)) for array in arrays]
    text = json.dumps({**header, "arrays": described}).encode()
    return [
        memoryview(_HEAD.pack(MAGIC, len(text)) + text),
        *(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data for array in arrays),
    ]


class FrameConnection(asyncio.Protocol):
    """One end of a stream socket on an event loop. Responses may arrive in any order.

    Args:
        max_bytes: Size limit of a received frame; a larger one closes the connection at its header.
    """

    def __init__(self, max_bytes: int = MAX_ARRAY_BYTES) -> None:
        self._max_bytes = max_bytes
        self._received = bytearray()
        self._ids = itertools.count(1)
        # By id; the first frame has none.
        self._pending: dict[object, asyncio.Future[Frame]] = {}
        self.closed = False

    def receive(self, identity: int | None = None) -> asyncio.Future[Frame]:
        """A future of the response with this id; it fails with `WireClosed`."""
        pending: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        if self.closed:
            fail(pending, WireClosed("the other side closed the connection"))
        else:
            self._pending[identity] = pending
        return pending

    def post(self, header: dict[str, Any], arrays: Sequence[Array] = ()) -> asyncio.Future[Frame]:
        """Send one frame; a future of the response, which fails with `WireClosed`."""
        identity = next(self._ids)
        if not self.closed:
            self._transport.writelines(frame({**header, "id": identity}, arrays))
        return self.receive(identity)

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
                identity = header.pop("id", None)
                if not isinstance(identity, int | None) or identity not in self._pending:
                    raise WireClosed("the other side sent a frame that was not requested")
                pending = self._pending.pop(identity)
                if not pending.done():
                    pending.set_result((header, _views(whole, shapes, start)))
        except WireClosed as exc:
            self._transport.abort()
            self.connection_lost(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop at the end."""
        self.closed = True
        pending, self._pending = self._pending, {}
        for future in pending.values():
            fail(future, WireClosed(str(exc or "the other side closed the connection")))


def fail(future: asyncio.Future[Any], error: Exception) -> None:
    """Fail a future unless it is done."""
    if not future.done():
        future.set_exception(error)
        # Retrieved, or asyncio would log it when the caller was cancelled before.
        future.exception()


class Wire:
    """The worker's end of the socket, with blocking calls."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.setblocking(True)

    def send(self, header: dict[str, Any], arrays: Sequence[Array] = ()) -> None:
        """Send one frame.

        Raises:
            WireClosed: See there.
        """
        try:
            for part in frame(header, arrays):
                self._socket.sendall(part, socket.MSG_NOSIGNAL)
        except OSError as exc:
            raise WireClosed(str(exc)) from exc

    def receive(self) -> Frame:
        """Receive one frame.

        Raises:
            WireClosed: See there.
        """
        size = _header_size(self._read(_HEAD.size))
        header, shapes = _header(self._read(size))
        return header, [_array(self._read(_size(*shape)), *shape) for shape in shapes]

    def _read(self, size: int) -> bytearray:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            try:
                count = self._socket.recv_into(view)
            except OSError as exc:
                raise WireClosed(str(exc)) from exc
            if count == 0:
                raise WireClosed("the other side closed the connection")
            view = view[count:]
        return data


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
