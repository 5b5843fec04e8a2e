"""Decoding beside the event loop, in processes that can be killed.

A legal progressive JPEG of 433 KB can hold a decoder for 15 s, and a thread can't be stopped; a process can.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
from concurrent.futures.process import BrokenProcessPool

from pebble import ProcessExpired, ProcessPool

from bundle.errors import UnreadableImage
from bundle.image import ImageLimits
from bundle.manifest import Input
from service.decoding import Decoded, decode, start_decoder
from service.errors import DecodeTimeout, QueueFull
from service.settings import Settings

STUCK_S = 30.0  # beyond an image's own deadline; only a pool that has lost its processes takes that long
POOLS_PER_IMAGE = 2

log = logging.getLogger("service")


class Decoder:
    """A pool of decoder processes with a deadline and a memory limit for each image.

    Images wait here and not in the pool: there, cancelling one costs a healthy process.
    """

    def __init__(self, settings: Settings) -> None:
        self._limits: ImageLimits = settings.image_limits
        self._timeout_s = settings.decode_timeout_s
        self._patience_s = settings.inference_timeout_s
        self._memory_bytes = settings.decode_memory_mb * 2**20
        self._most_waiting = settings.queue_size
        self._waiting = 0
        self._workers = settings.decode_workers or len(os.sched_getaffinity(0))
        # One more than there are processes, so that none of them idles between two images.
        self._slots = asyncio.Semaphore(self._workers + 1)
        self._replacing = asyncio.Lock()
        self._pool = self._new_pool()

    async def start(self) -> None:
        """Start the processes, so that the first request does not wait for them."""
        warm = [self._pool.schedule(os.getpid) for _ in range(self._workers)]
        await asyncio.gather(*map(asyncio.wrap_future, warm), return_exceptions=True)

    async def decode(self, data: bytes, geometry: Input) -> Decoded:
        """The pixels of an image file.

        Raises:
            ImageError: it is no image that is accepted.
            DecodeTimeout: it takes too long.
            QueueFull: too many images wait for a decoder, or this one has waited too long.
        """
        if self._waiting >= self._most_waiting:
            raise QueueFull(f"{self._waiting} images wait to be decoded. Send this one again a little later.")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._patience_s):
                await self._slots.acquire()
        except TimeoutError as exc:
            raise QueueFull(
                f"No decoder was free within {self._patience_s:g} s. Send the image again a little later."
            ) from exc
        finally:
            self._waiting -= 1
        # An image that has left the queue is decoded even if its client goes; that takes `timeout_s` at most.
        working = asyncio.create_task(self._decode(data, geometry))
        working.add_done_callback(self._done)
        return await asyncio.shield(working)

    def stop(self) -> None:
        """End all processes at once."""
        _end(self._pool)

    async def _decode(self, data: bytes, geometry: Input) -> Decoded:
        for _ in range(POOLS_PER_IMAGE):
            pool = self._pool
            try:
                future = pool.schedule(decode, args=[data, self._limits, geometry], timeout=self._timeout_s)
            except RuntimeError:  # pebble's word for a pool that has ended
                await self._replace(pool)
                continue
            waiting = asyncio.wrap_future(future)
            done, _ = await asyncio.wait([waiting], timeout=self._timeout_s + STUCK_S)
            try:
                if done:
                    return waiting.result()
                waiting.cancel()
            except TimeoutError as exc:
                raise DecodeTimeout(
                    f"The image takes more than {self._timeout_s:g} s to decode. Send a smaller one, or save it anew "
                    f"as a baseline JPEG or PNG. Received: {len(data)} bytes"
                ) from exc
            except ProcessExpired as exc:
                raise _fatal(data) from exc
            except BrokenProcessPool:
                pass  # its processes have gone with no image to blame
            await self._replace(pool)
        raise _fatal(data)

    def _done(self, working: asyncio.Task[Decoded]) -> None:
        self._slots.release()
        if not working.cancelled():
            working.exception()  # looked at, or asyncio logs it when the client has gone

    def _new_pool(self) -> ProcessPool:
        # "spawn" starts from nothing: no thread, lock or socket of the server is inherited.
        return ProcessPool(
            max_workers=self._workers,
            context=multiprocessing.get_context("spawn"),
            initializer=start_decoder,
            initargs=[self._memory_bytes, os.getpid()],
        )

    async def _replace(self, broken: ProcessPool) -> None:
        """Another pool in place of a broken one, once for all who notice."""
        async with self._replacing:
            if self._pool is broken:
                log.warning("the pool of decoders has lost its processes; starting another")
                self._pool = self._new_pool()
                await asyncio.to_thread(_end, broken)


def _end(pool: ProcessPool) -> None:
    pool.stop()  # type: ignore[no-untyped-call]
    pool.join()


def _fatal(data: bytes) -> UnreadableImage:
    return UnreadableImage(
        "The decoder ended on this image. Save it anew as a baseline JPEG or PNG. "
        f"Received: {len(data)} bytes"
    )
