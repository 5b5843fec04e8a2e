"""Decoding beside the event loop, in processes that can be killed.

A legal progressive JPEG of 433 KB can hold a decoder for 15 s, and a thread can't be stopped; a process can.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeout

from pebble import ProcessExpired, ProcessPool

from bundle.errors import UnreadableImage
from bundle.image import ImageLimits
from bundle.manifest import Input
from service.decoding import Decoded, decode, start_decoder
from service.errors import DecodeTimeout, QueueFull
from service.settings import Settings


class Decoder:
    """A pool of decoder processes with a deadline and a memory limit for each image."""

    def __init__(self, settings: Settings) -> None:
        self._limits: ImageLimits = settings.image_limits
        self._timeout_s = settings.decode_timeout_s
        self._most_waiting = settings.queue_size
        self._waiting = 0
        self._workers = settings.decode_workers or len(os.sched_getaffinity(0))
        # "spawn" starts from nothing: no thread, lock or socket of the server is inherited.
        self._pool = ProcessPool(
            max_workers=self._workers,
            context=multiprocessing.get_context("spawn"),
            initializer=start_decoder,
            initargs=[settings.decode_memory_mb * 2**20],
        )

    async def start(self) -> None:
        """Start the processes, so that the first request does not wait for them."""
        loop = asyncio.get_running_loop()
        warm = [self._pool.schedule(os.getpid) for _ in range(self._workers)]
        await asyncio.gather(*(asyncio.wrap_future(future, loop=loop) for future in warm))

    async def decode(self, data: bytes, geometry: Input) -> Decoded:
        """The pixels of an image file.

        Raises:
            ImageError: it is no image that is accepted.
            DecodeTimeout: it takes too long.
            QueueFull: too many images wait for a decoder.
        """
        if self._waiting >= self._most_waiting:
            raise QueueFull(f"{self._waiting} images wait to be decoded. Send this one again a little later.")
        self._waiting += 1
        try:
            future = self._pool.schedule(decode, args=[data, self._limits, geometry], timeout=self._timeout_s)
            # A cancelled request cancels the future, and pebble then kills the process that works on it.
            return await asyncio.wrap_future(future)
        except FutureTimeout as exc:
            raise DecodeTimeout(
                f"The image takes more than {self._timeout_s:g} s to decode. Send a smaller one, or save it anew "
                f"as a baseline JPEG or PNG. Received: {len(data)} bytes"
            ) from exc
        except ProcessExpired as exc:
            raise UnreadableImage(
                "The decoder ended on this image. Save it anew as a baseline JPEG or PNG. "
                f"Received: {len(data)} bytes"
            ) from exc
        except CancelledError as exc:  # the pool's, at shutdown; a cancelled request raises asyncio's own
            raise asyncio.CancelledError from exc
        finally:
            self._waiting -= 1

    def stop(self) -> None:
        """End all processes at once."""
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()
