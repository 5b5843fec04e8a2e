"""Framed messages between the parent and a worker: a JSON header, then raw arrays. Nothing is ever unpickled.

Frame: magic ``b"BW1\\n"``, header length (uint32, big endian), header (JSON), then the bytes of each array in C
order. ``header["arrays"]`` holds ``[dtype, shape]`` for each one; only the dtypes in ``DTYPES`` are known.
"""

from __future__ import annotations

import json
import math
import select
import socket
import struct
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

MAGIC = b"BW1\n"
DTYPES = ("uint8", "int64", "float32")
MAX_HEADER_BYTES = 1_000_000
MAX_ARRAY_BYTES = 1 << 31
_HEAD = struct.Struct(">4sI")

Array = npt.NDArray[Any]


class WireClosed(Exception):
    """The other side is gone, or what it sent is not a frame."""


class WireTimeout(Exception):
    """The deadline passed before the frame was through."""


class Wire:
    """One end of a stream socket. With a deadline (``time.monotonic`` seconds) no call blocks past it.

    ``process``: a pidfd of the other side; its end counts as a closed socket, even where some forked
    process still holds a copy of the socket open.
    """

    def __init__(self, connection: socket.socket, process: int | None = None) -> None:
        self._socket = connection
        self._socket.setblocking(False)
        self._process = process

    def send(
        self, header: dict[str, Any], arrays: Sequence[Array] = (), deadline: float | None = None
    ) -> None:
        """Send one frame. Raises :class:`WireClosed`, :class:`WireTimeout`."""
        blocks = [np.ascontiguousarray(array) for array in arrays]
        described = {**header, "arrays": [[str(block.dtype), list(block.shape)] for block in blocks]}
        text = json.dumps(described).encode()
        self._write(memoryview(_HEAD.pack(MAGIC, len(text)) + text), deadline)
        for block in blocks:
            self._write(block.reshape(-1).view(np.uint8).data, deadline)

    def receive(self, deadline: float | None = None) -> tuple[dict[str, Any], list[Array]]:
        """Receive one frame. Raises :class:`WireClosed`, :class:`WireTimeout`."""
        magic, length = _HEAD.unpack(self._read(_HEAD.size, deadline))
        if magic != MAGIC or length > MAX_HEADER_BYTES:
            raise WireClosed("the other side sent something that is not a frame")
        try:
            header = json.loads(self._read(length, deadline))
            shapes = [_described(item) for item in header.pop("arrays")]
        except (ValueError, TypeError, KeyError, AttributeError) as exc:
            raise WireClosed(f"the other side sent a frame without a readable header ({exc})") from exc
        arrays = []
        for dtype, shape in shapes:
            data = self._read(math.prod(shape) * dtype.itemsize, deadline)
            arrays.append(np.frombuffer(data, dtype=dtype).reshape(shape))
        return header, arrays

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


def _described(item: Any) -> tuple[np.dtype[Any], tuple[int, ...]]:
    name, shape = item
    if name not in DTYPES or not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError(f"an array of {item!r:.80}")
    dtype = np.dtype(name)
    if math.prod(shape) * dtype.itemsize > MAX_ARRAY_BYTES:
        raise ValueError(f"an array of {item!r:.80} is too large")
    return dtype, tuple(shape)
