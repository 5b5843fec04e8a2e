"""One process of the pool of decoders (:mod:`service.decoding.pool`), started again after its end."""

from __future__ import annotations

import asyncio
import functools
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
STARTS = 2  # a process can be killed while it starts
MAX_BYTES = 256 * 2**20  # that a decoder may answer with
# In a pipe is the image that is decoded and, if it is small, others for which the decoder then need not wait, up to so much work
# together: they are done before the web process comes round with the next. With the shipped ResNet-20 and 32 connections decoders
# lacked work a quarter of their time with 2, and an eighth more is answered with 8. Behind a photo of 12 megapixels another gains nothing.
IN_PIPE, PREFETCH_COST = 8, 256 * 2**10
PIXELS_AS_A_BYTE = 4  # a file of few bytes can have many pixels, and the work is in both
TEXT = TypeAdapter(str)


class NotStarted(Exception):
    """The process can't be started; the text says why."""


def decode_cost(data: bytes) -> int:
    """How much work it is to decode an image file, in bytes of a usual one; as much as a pipe takes where that can't be told."""
    if (
        len(data) >= PREFETCH_COST
    ):  # alone in its pipe whatever its header says, and to look through all of it takes milliseconds
        return len(data)
    pixels = quick_pixels(data)
    return max(len(data), PREFETCH_COST if pixels is None else pixels // PIXELS_AS_A_BYTE)


class DecoderProcess:
    """One decoder; it takes one image after another."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._arguments = arguments
        self._process: FramedProcess | None = None
        self.images = self.work = 0  # that have a place in its pipe
        self.gone = asyncio.Event()  # set when it has ended on an image
        self.failed = False  # the last time that it was started

    def has_room(self, work: int) -> bool:
        """Whether an image of so much work may go into its pipe."""
        return not self.images or (self.images < IN_PIPE and self.work + work <= PREFETCH_COST)

    def enter(self, work: int) -> None:
        """An image of so much work has a place in its pipe."""
        self.images += 1
        self.work += work

    def leave(self, work: int) -> None:
        """It has it no more."""
        self.images -= 1
        self.work -= work

    @property
    def running(self) -> bool:
        """Whether there is a process that is ready, and has not ended."""
        return self._process is not None and self._process.running

    async def start(self) -> None:
        """Start the process unless it runs.

        Raises:
            NotStarted: it can't be; the text says why.
        """
        reason = ""
        for _ in range(STARTS):
            if self.running:
                return
            await self.kill()
            process = FramedProcess(
                "service.decoding", self._arguments, environment("cpu", 1), MAX_BYTES
            )
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
        """The pixels of an image file. The time counts from the end of the image before.

        Raises:
            ImageError: it is no image that is accepted.
            WireClosed: the process has ended on this image; `bundle.worker.client.LostInQueue`: on another.
            TimeoutError: it took longer, and the process is killed.
        """
        process = self._process
        assert process is not None  # noqa: S101 - places are given in processes that run
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
                    f"the decoder sent something else than pixels: {pixels.dtype} {pixels.shape}"
                )
            return DecodedImage(pixels, ImageInfo(**found["image"]))
        except (TimeoutError, WireClosed):
            await self._end(process)
            raise
        except (KeyError, TypeError, ValueError) as exc:
            await self._end(process)
            raise WireClosed(f"the decoder sent something else than an answer: {exc!r}") from exc

    async def _end(self, process: FramedProcess) -> None:
        """End the process that had an image, which can be another than that of now."""
        self.gone.set()
        await process.kill()

    async def kill(self) -> None:
        """End the process at once, if there is one."""
        if self._process is not None:
            await self._process.kill()


@functools.lru_cache(maxsize=256)
def _as_json(geometry: Input) -> str:
    """The geometry of a model; the same few come again and again."""
    return geometry.model_dump_json()
