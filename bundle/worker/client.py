"""The asyncio side of a child process that answers frames: a decoder or a model."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from pydantic import TypeAdapter

from bundle.errors import BUNDLE_ERRORS, IMAGE_ERRORS, BundleError, ImageError
from bundle.sandbox import Sandbox
from bundle.worker.process import Child, Reason
from bundle.worker.wire import MAX_ARRAY_BYTES, Array, Frame, FrameConnection, WireClosed

# For a process that has closed its socket, to exit with its own status.
GRACE_S = 0.5
# Between two polls of a process that is being killed.
POLL_S = 0.005
# For the last output of a process; one that it started may keep the pipe open.
OUTPUT_S = 1.0
TEXT = TypeAdapter(str)


class FramedProcess:
    """`python -m MODULE` that answers frames. Started once; after its end the caller makes another.

    Args:
        module: The module to run.
        arguments: What the module's `main` takes, see `Child`.
        variables: The environment of the process, from `bundle.worker.process.environment`.
        max_bytes: Size limit of a frame from it; a larger one counts as its end.
        sandbox: What it is confined to; None: it may do what this process may.
    """

    # Why it has ended, once `kill` has returned.
    reason: Reason | None = None

    def __init__(
        self,
        module: str,
        arguments: Mapping[str, Any],
        variables: Mapping[str, str],
        max_bytes: int = MAX_ARRAY_BYTES,
        sandbox: Sandbox | None = None,
    ) -> None:
        self._max_bytes = max_bytes
        self._start = (module, arguments, variables, sandbox)
        self._child: Child | None = None
        self._output: Output | None = None
        self._connection: FrameConnection | None = None
        self._last: asyncio.Future[Frame] | None = None  # to the request before the next one

    async def start(self, timeout_s: float) -> dict[str, Any]:
        """Start it and return the header of its first frame.

        Raises:
            WireClosed: It can't be started, ended, or sent nothing within `timeout_s` seconds. No
                process is left behind.
        """
        loop = asyncio.get_running_loop()
        try:
            self._child = child = Child(*self._start)
            _, self._output = await loop.connect_read_pipe(lambda: Output(child), child.output)
            connection = FrameConnection(self._max_bytes)
            ready = connection.receive()  # before any frame can arrive
            # The event loop closes its socket, and the child its own.
            _, self._connection = await loop.create_unix_connection(
                lambda: connection, sock=child.connection.dup()
            )
            async with asyncio.timeout(timeout_s):
                return (await ready)[0]
        # TimeoutError is an OSError; a machine short of memory or threads raises the other two.
        except (OSError, MemoryError, RuntimeError, WireClosed) as exc:
            if isinstance(exc, TimeoutError):
                what = "was not ready in time"
            else:
                what = "can't be started" if self._child is None else "ended"
                what += f" ({text_of(exc)})"
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

    async def ask(self, header: dict[str, Any], arrays: Sequence[Array], timeout_s: float) -> Frame:
        """Send a frame and return the response. Several may be in flight, and end in any order.

        Args:
            header: The header of the frame.
            arrays: The arrays of the frame.
            timeout_s: Time limit in seconds, from the end of the request before: a worker may take
                them one after another.

        Raises:
            WireClosed: It has ended.
            TimeoutError: It takes longer; the caller kills it.
        """
        if self._connection is None:
            raise WireClosed("The process has not been started.")
        response = self._connection.post(header, arrays)
        before, self._last = self._last, response
        if before is not None and not before.done():
            await asyncio.wait((before, response), return_when=asyncio.FIRST_COMPLETED)
        try:
            async with asyncio.timeout(timeout_s):
                return await response
        except TimeoutError:
            self.reason = self.reason or "timeout"
            raise

    async def kill(self, grace_s: float = 0) -> str:
        """Hang up and kill it unless it exits within `grace_s` seconds.

        Returns its exit status and last output lines. Requests in flight fail with `WireClosed`.
        """
        running = self.running
        if self._connection is not None:
            self._connection.close()
        if self._child is None:
            return ""
        self._child.hang_up()
        # Without a thread: starting one can fail, or block the loop for ever, on a machine short of
        # memory.
        process = self._child.process
        try:
            await _ended(process, grace_s)
            by_itself = process.returncode is not None and not running
            process.kill()
            await _ended(process, None)
            if self._output is not None:
                await self._output.wait(OUTPUT_S)
            # A process that runs is killed for what it has sent, unless it is stopped.
            self.reason = self.reason or (self._child.reason if by_itself else "protocol")
            return self._child.ending()
        finally:
            process.kill()
            process.wait()  # where this was cancelled; it takes a moment
            if self._output is not None:
                self._output.close()
            self._child.close()

    def kill_now(self) -> None:
        """Kill it from any thread; `kill` still has to release what it holds."""
        if self._child is not None:
            self.reason = "replaced"
            self._child.process.kill()


async def _ended(process: subprocess.Popen[bytes], timeout_s: float | None) -> None:
    """Wait until the process has ended, for `timeout_s` seconds at most."""
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while process.poll() is None:  # noqa: ASYNC110 - a process sets no event
                await asyncio.sleep(POLL_S)


def raise_error(header: Mapping[str, Any]) -> None:
    """Raise the error about a bundle that a child's frame carries, if any."""
    if "error" in header:
        raise BUNDLE_ERRORS.get(header["error"], BundleError)(str(header["detail"]))


def image_error(record: Mapping[str, Any]) -> ImageError:
    """The error of an image that a child reports by `error`, its code, and `detail`.

    Raises:
        KeyError, TypeError, ValueError: It is not one.
    """
    return IMAGE_ERRORS[record["error"]](TEXT.validate_python(record["detail"]))


def text_of(exc: Exception) -> str:
    """The text of an error, or its class if it has none, as MemoryError does."""
    return str(exc) or type(exc).__name__


class Output(asyncio.Protocol):
    """Collects what a child prints."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        self._child.keep(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Called by the event loop once every process that has the pipe open has closed it."""
        self._ended.set()

    async def wait(self, timeout_s: float) -> None:
        """Wait for the end of the output, for `timeout_s` seconds at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._ended.wait()

    def close(self) -> None:
        """Stop reading."""
        self._transport.close()
