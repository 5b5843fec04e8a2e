"""A child process that answers frames, on the event loop: what the decoders and the models have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from bundle.child import Child, environment
from bundle.wire import MAX_ARRAY_BYTES, Answer, Array, FrameConnection, WireClosed


class Bystander(WireClosed):
    """The process ended on the frame before this one."""


class FramedProcess:
    """``python -m MODULE`` with the parent's end of its socket. Started once; after its end the caller makes another.

    Args:
        arguments: what the module's ``main`` takes.
        threads: CPU threads of the libraries in it; None: what they choose.
        most_bytes: that one of its frames may have; with more it counts as ended.
    """

    def __init__(
        self,
        module: str,
        arguments: dict[str, Any],
        device: str,
        threads: int | None,
        most_bytes: int = MAX_ARRAY_BYTES,
    ) -> None:
        self._most_bytes = most_bytes
        self._start = (module, arguments, environment(device, threads))
        self._child: Child | None = None
        self._connection: FrameConnection | None = None
        self._last: asyncio.Future[Answer] | None = None  # the answer that comes before the next one

    async def start(self, timeout_s: float) -> dict[str, Any]:
        """Start it and return its first frame.

        Raises:
            WireClosed: it ended, or has said nothing within `timeout_s` seconds. No process is left behind.
        """
        try:
            self._child = Child(*self._start)
            connection = FrameConnection(self._most_bytes)
            ready = connection.receive()  # waited for before anything can come
            # The event loop closes its socket, and the child its own.
            _, self._connection = await asyncio.get_running_loop().create_unix_connection(
                lambda: connection, sock=self._child.connection.dup()
            )
            async with asyncio.timeout(timeout_s):
                return (await ready)[0]
        except (OSError, WireClosed) as exc:  # TimeoutError is an OSError
            what = "was not ready in time" if isinstance(exc, TimeoutError) else f"ended ({exc})"
            raise WireClosed(f"The process {what}. {await self.kill()}") from exc
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
    ) -> Answer:
        """Send a frame; the answer. Several may be under way; the time counts from the end of the one before.

        Raises:
            WireClosed: it has ended on this frame; :class:`Bystander`: on the one before.
            TimeoutError: it takes longer; whatever it answers later belongs to nobody, so the caller kills it.
        """
        if self._connection is None:
            raise WireClosed("The process has not been started.")
        answer = self._connection.post(header, arrays)
        before, self._last = self._last, answer
        if before is not None and not before.done():
            await asyncio.wait([before])
            if answer.done() and answer.exception() is not None:
                raise Bystander("the process ended on the frame before")
        async with asyncio.timeout(timeout_s):
            return await answer

    async def kill(self) -> str:
        """End it at once; how it ended and what it said last. Whoever waits for an answer gets :class:`WireClosed`."""
        if self._connection is not None:
            self._connection.close()
        if self._child is None:
            return ""
        try:
            return await asyncio.to_thread(self._child.end)
        finally:  # cancelled, the thread ends the process all the same
            self._child.close()
