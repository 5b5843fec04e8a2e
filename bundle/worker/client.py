"""A child process that answers frames, on the event loop: what the decoders and the models have in common."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from bundle.worker.process import Child, environment
from bundle.worker.wire import MAX_ARRAY_BYTES, Array, Frame, FrameConnection, WireClosed

GRACE_S = 0.5  # for one that has closed its socket, to end as it would
POLL_S = 0.005  # between two looks at a process that is being killed
OUTPUT_S = 1.0  # for what it printed last; a process that it started may hold the pipe


class LostInQueue(WireClosed):
    """The process ended on the frame before this one."""


class FramedProcess:
    """``python -m MODULE`` with the parent's end of its socket. Started once; after its end the caller makes another.

    Args:
        arguments: what the module's ``main`` takes.
        threads: CPU threads of the libraries in it; None: what they choose.
        max_bytes: that one of its frames may have; with more it counts as ended.
    """

    def __init__(
        self,
        module: str,
        arguments: dict[str, Any],
        device: str,
        threads: int | None,
        max_bytes: int = MAX_ARRAY_BYTES,
    ) -> None:
        self._most_bytes = max_bytes
        self._start = (module, arguments, environment(device, threads))
        self._child: Child | None = None
        self._output: Output | None = None
        self._connection: FrameConnection | None = None
        self._last: asyncio.Future[Frame] | None = None  # the answer that comes before the next one

    async def start(self, timeout_s: float) -> dict[str, Any]:
        """Start it and return its first frame.

        Raises:
            WireClosed: it can't be started, ended, or has said nothing within `timeout_s` seconds. No process is left behind.
        """
        loop = asyncio.get_running_loop()
        try:
            self._child = child = Child(*self._start)
            _, self._output = await loop.connect_read_pipe(lambda: Output(child), child.output)
            connection = FrameConnection(self._most_bytes)
            ready = connection.receive()  # waited for before anything can come
            # The event loop closes its socket, and the child its own.
            _, self._connection = await loop.create_unix_connection(
                lambda: connection, sock=child.connection.dup()
            )
            async with asyncio.timeout(timeout_s):
                return (await ready)[0]
        # TimeoutError is an OSError; a machine that is short of something says so in either of the others.
        except (OSError, MemoryError, RuntimeError, WireClosed) as exc:
            what = "ended" if self._child is not None else "can't be started"
            what = (
                "was not ready in time"
                if isinstance(exc, TimeoutError)
                else f"{what} ({text_of(exc)})"
            )
            ending = await self.kill(GRACE_S if isinstance(exc, WireClosed) else 0)
            raise WireClosed(f"The process {what}. {ending}") from exc
        except BaseException:
            await self.kill()
            raise

    @property
    def pid(self) -> int | None:
        """Process id; None before the start. It stays after the end."""
        return None if self._child is None else self._child.process.pid

    @property
    def running(self) -> bool:
        """Whether it takes requests."""
        return self._connection is not None and not self._connection.closed

    async def ask(
        self, header: dict[str, Any], arrays: Sequence[Array | Sequence[Array]], timeout_s: float
    ) -> Frame:
        """Send a frame; the answer. Several may be under way; the time counts from the end of the one before.

        Raises:
            WireClosed: it has ended on this frame; :class:`LostInQueue`: on the one before.
            TimeoutError: it takes longer; whatever it answers later belongs to nobody, so the caller kills it.
        """
        if self._connection is None:
            raise WireClosed("The process has not been started.")
        answer = self._connection.post(header, arrays)
        before, self._last = self._last, answer
        if before is not None and not before.done():
            await asyncio.wait([before])
            if answer.done() and answer.exception() is not None:
                raise LostInQueue("the process ended on the frame before")
        async with asyncio.timeout(timeout_s):
            return await answer

    async def kill(self, grace_s: float = 0) -> str:
        """End it, if it has not ended within `grace_s` seconds; how it ended and what it said last.

        Whoever waits for an answer gets :class:`WireClosed`.
        """
        if self._connection is not None:
            self._connection.close()
        if self._child is None:
            return ""
        # Without a thread: one that has to be started can fail, or keep the loop waiting for ever, on a machine short of memory.
        process = self._child.process
        try:
            await _ended(process, grace_s)
            process.kill()
            await _ended(process, None)
            if self._output is not None:
                await self._output.wait(OUTPUT_S)
            return self._child.ending()
        finally:
            process.kill()
            process.wait()  # where it was cancelled; it takes a moment
            if self._output is not None:
                self._output.close()
            self._child.close()


async def _ended(process: subprocess.Popen[bytes], timeout_s: float | None) -> None:
    """Wait until the process has ended, for `timeout_s` seconds at most."""
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while process.poll() is None:  # noqa: ASYNC110 - a process sets no event
                await asyncio.sleep(POLL_S)


def text_of(exc: Exception) -> str:
    """What an error says, or its class if it says nothing, as MemoryError does."""
    return str(exc) or type(exc).__name__


class Output(asyncio.Protocol):
    """Keeps what a child prints."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        self._child.keep(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the signature of a protocol
        """Called by the event loop at the end of all who may print."""
        self._ended.set()

    async def wait(self, timeout_s: float) -> None:
        """Wait for the end, for `timeout_s` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._ended.wait()

    def close(self) -> None:
        """Read no more."""
        self._transport.close()
