"""One worker of the decoder pool: a process that can be started again after it has ended."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from bundle.errors import IMAGE_ERRORS
from bundle.format.manifest import Input
from bundle.imaging.decode import DecodedImage, ImageInfo
from bundle.imaging.formats import quick_pixels
from bundle.worker.client import FramedProcess
from bundle.worker.process import environment
from bundle.worker.wire import WireClosed

START_S = 60.0
# A process can be killed while it starts.
START_ATTEMPTS = 2
# Largest frame that a decoder may send.
MAX_BYTES = 256 * 2**20
# Prefetch: small images are queued in the worker's socket, up to both limits, so that it does not
# idle until the web process sends the next one. With the shipped ResNet-20 and 32 connections,
# workers idled a quarter of the time with 2 images, and 8 gave an eighth more throughput. Behind a
# photo of 12 megapixels another image gains nothing.
PREFETCH_IMAGES, PREFETCH_COST = 8, 256 * 2**10
# A file of few bytes can have many pixels, and both cost time.
PIXELS_PER_BYTE = 4
TEXT = TypeAdapter(str)


class NotStarted(Exception):
    """The process cannot be started; the text says why."""


def decode_cost(data: bytes) -> int:
    """Estimated decode cost in byte equivalents; the full prefetch budget if unknown."""
    # Not prefetched whatever its header says, and parsing a large file takes milliseconds.
    if len(data) >= PREFETCH_COST:
        return len(data)
    pixels = quick_pixels(data)
    return max(len(data), PREFETCH_COST if pixels is None else pixels // PIXELS_PER_BYTE)


def new_process(arguments: dict[str, Any]) -> FramedProcess:
    """Make a decoder process that is not started yet. For `arguments` see `__main__.main`."""
    return FramedProcess("service.decoding", arguments, environment("cpu", 1), MAX_BYTES)


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
        # Images queued or decoding, and their total cost.
        self.images = self.cost = 0
        # Set when the process has ended on an image.
        self.gone = asyncio.Event()
        # Whether the last start failed.
        self.failed = False

    def can_accept(self, cost: int) -> bool:
        """Whether an image of this cost may be queued in the process's socket."""
        return not self.images or (
            self.images < PREFETCH_IMAGES and self.cost + cost <= PREFETCH_COST
        )

    def acquire(self, cost: int) -> None:
        """Reserve a slot for an image of this cost."""
        self.images += 1
        self.cost += cost

    def release(self, cost: int) -> None:
        """Release the slot of an image of this cost."""
        self.images -= 1
        self.cost -= cost

    @property
    def running(self) -> bool:
        """Whether the process is ready and has not ended."""
        return self._process is not None and self._process.running

    async def start(self) -> None:
        """Start the process unless it runs.

        Raises:
            NotStarted: it cannot be started; the text says why.
        """
        reason = ""
        for _ in range(START_ATTEMPTS):
            if self.running:
                return
            await self.kill()
            process = self._new_process(self._arguments)
            try:
                await process.start(START_S)
            except WireClosed as exc:
                reason = str(exc)
            else:
                self._process, self.failed = process, False
                return
        self.failed = True
        raise NotStarted(reason)

    async def decode(self, data: bytes, geometry: Input, timeout_s: float) -> DecodedImage:
        """Decode an image file. The timeout counts from the end of the image before.

        Raises:
            ImageError: the file is not an acceptable image.
            LostInQueue: the process ended on an earlier image.
            WireClosed: it ended on this one, or sent an invalid frame.
            TimeoutError: it took too long; the process has been killed.
        """
        process = self._process
        assert process is not None  # noqa: S101 - slots exist only in running processes
        content = np.frombuffer(data, np.uint8)
        try:
            found, arrays = await process.ask(
                {"geometry": _as_json(geometry)}, [content], timeout_s
            )
            if "error" in found:
                raise IMAGE_ERRORS[found["error"]](TEXT.validate_python(found["detail"]))
            (pixels,) = arrays
            if pixels.dtype != np.uint8 or pixels.shape != (geometry.height, geometry.width, 3):
                raise WireClosed(
                    f"the decoder sent an array of another kind: {pixels.dtype} {pixels.shape}"
                )
            return DecodedImage(pixels, ImageInfo(**found["image"]))
        except (TimeoutError, WireClosed):
            await self._end(process)
            raise
        except (KeyError, TypeError, ValueError) as exc:
            await self._end(process)
            raise WireClosed(f"the decoder sent an invalid frame: {exc!r}") from exc

    async def _end(self, process: FramedProcess) -> None:
        """Kill the process that had an image; `self._process` may already be its successor."""
        self.gone.set()
        await process.kill()

    async def kill(self) -> None:
        """Kill the process if there is one."""
        if self._process is not None:
            await self._process.kill()


@functools.lru_cache(maxsize=256)
def _as_json(geometry: Input) -> str:
    """A model's geometry as JSON, cached: there are only a few."""
    return geometry.model_dump_json()
