"""One worker of the decoder pool: a process that can be started again after it has ended."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from bundle.format.manifest import Input
from bundle.imaging.decode import DecodedImage, ImageInfo
from bundle.sandbox import Report, Sandbox
from bundle.worker.client import GRACE_S, FramedProcess, image_error
from bundle.worker.process import Reason, environment
from bundle.worker.wire import Array, WireClosed

# How a PNG file begins.
PNG = b"\x89PNG\r\n\x1a\n"
START_S = 60.0
# A process can be killed while it starts.
START_ATTEMPTS = 2
# Largest frame that a decoder may send.
MAX_BYTES = 256 * 2**20


T = TypeVar("T")


class NotStarted(Exception):
    """The process cannot be started; the text says why."""


def new_process(arguments: dict[str, Any]) -> FramedProcess:
    """Make a decoder process that is not started yet.

    Args:
        arguments: what `__main__.main` takes, and confined: whether it runs in a sandbox.
    """
    sandbox = Sandbox() if arguments["confined"] else None
    return FramedProcess("service.decoding", arguments, environment("cpu", 1), MAX_BYTES, sandbox)


class DecoderProcess:
    """One decoder; it decodes one image after another.

    Args:
        arguments: the limits, as `__main__.main` takes them.
        new_process: makes the process that `start` starts.
    """

    def __init__(
        self,
        arguments: dict[str, Any],
        new_process: Callable[[dict[str, Any]], FramedProcess] = new_process,
    ) -> None:
        self._arguments = arguments
        self._new_process = new_process
        self._process: FramedProcess | None = None
        # Whether the last start failed.
        self.failed = False
        # Of the last start; empty: it is not confined.
        self.isolation: Report = {}

    @property
    def running(self) -> bool:
        """Whether the process is ready and has not ended."""
        return self._process is not None and self._process.running

    async def start(self) -> Reason | None:
        """Start the process unless it runs; why the one before it has ended, if there was one.

        Raises:
            NotStarted: it cannot be started; the text says why.
        """
        reason = ""
        ended = None
        for _ in range(START_ATTEMPTS):
            if self.running:
                return ended
            await self.kill(GRACE_S)
            ended = self._process.reason if self._process else None
            process = self._new_process(self._arguments)
            try:
                ready = await process.start(START_S)
            except WireClosed as exc:
                reason = str(exc)
            else:
                self._process, self.failed = process, False
                self.isolation = ready["isolation"]
                return ended
        self.failed = True
        raise NotStarted(reason)

    async def decode(self, data: bytes, geometry: Input, timeout_s: float) -> DecodedImage:
        """Decode an image file.

        Raises:
            ImageError: the file is not an acceptable image.
            WireClosed: the process ended, or sent an invalid frame.
            TimeoutError: it took too long; the process has been killed.
        """

        def read(found: dict[str, Any], pixels: Array) -> DecodedImage:
            if pixels.shape != (geometry.height, geometry.width, 3):
                raise ValueError(f"pixels of another shape: {pixels.shape}")
            return DecodedImage(pixels, ImageInfo(**found["image"]))

        return await self._ask([np.frombuffer(data, np.uint8)], geometry, timeout_s, read)

    async def draw(
        self,
        data: bytes,
        geometry: Input,
        heatmap: npt.NDArray[np.float32],
        timeout_s: float,
    ) -> bytes:
        """Draw a heat map over an image file: a PNG file. Raises as `decode`."""

        def read(_found: dict[str, Any], file: Array) -> bytes:
            content = file.tobytes()
            if not content.startswith(PNG):
                raise ValueError(f"another file than a PNG: {content[:8]!r}")
            return content

        return await self._ask([np.frombuffer(data, np.uint8), heatmap], geometry, timeout_s, read)

    async def _ask(
        self,
        arrays: list[Array],
        geometry: Input,
        timeout_s: float,
        read: Callable[[dict[str, Any], Array], T],
    ) -> T:
        """What `read` makes of the process's response, header and uint8 array; see `decode`."""
        process = self._process
        if process is None:
            raise WireClosed("the decoder has not been started")
        try:
            found, results = await process.ask({"geometry": _as_json(geometry)}, arrays, timeout_s)
            if "error" in found:
                raise image_error(found)
            (result,) = results
            if result.dtype != np.uint8:
                raise ValueError(f"an array of another kind: {result.dtype}")
            return read(found, result)
        except TimeoutError:
            await process.kill()
            raise
        except WireClosed:
            await process.kill(GRACE_S)
            raise
        except (KeyError, TypeError, ValueError) as exc:
            await process.kill()
            raise WireClosed(f"the decoder sent an invalid frame: {exc!r}") from exc

    async def kill(self, grace_s: float = 0) -> None:
        """Kill the process, if there is one, unless it exits within `grace_s` seconds."""
        if self._process is not None:
            await self._process.kill(grace_s)


@functools.lru_cache(maxsize=256)
def _as_json(geometry: Input) -> str:
    """A model's geometry as JSON, cached: there are only a few."""
    return geometry.model_dump_json()
