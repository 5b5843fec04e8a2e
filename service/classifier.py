"""From image files or pixels to logits: admitted, decoded, classified.

A file whose decoding is bounded by its size goes straight to the process that runs the network, and
is decoded there. The others are decoded in a decoder first, which can be killed without ending a
model.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from bundle.errors import BundleError, ImageError
from bundle.format.manifest import Input
from bundle.imaging.decode import DecodedImage
from bundle.imaging.formats import quick_pixels
from bundle.worker.model_process import Pixels
from bundle.worker.responses import Extras
from service.decoding.pool import Decoder
from service.errors import Failure, ServiceError
from service.models.model import Target
from service.models.queued import Classification, ProcessLost

# Together they bound the time of decoding: a file of few bytes can have many pixels.
QUICK_BYTES, QUICK_PIXELS = 256 * 2**10, 2**20

Outcome = Classification | Failure
"""What comes of one image."""


class CacheUse(NamedTuple):
    """Where the distinct images of a request came from, by number."""

    hits: int
    collapsed: int  # computed for another request at the same time
    computed: int
    stored: int  # of those computed


class Outcomes(NamedTuple):
    """What comes of the images of a request, in their order."""

    images: list[Outcome]
    cache: CacheUse | None = None  # None: there is no cache


class Classifier:
    """Classifies images.

    Args:
        decoder: For files that are not quick to decode.
        clock: Seconds.
    """

    def __init__(self, decoder: Decoder, clock: Callable[[], float] = time.perf_counter) -> None:
        self._decoder = decoder
        self._clock = clock

    async def classify(
        self,
        target: Target,
        images: Sequence[bytes] | Sequence[Pixels],
        extras: Extras | None = None,
        *,
        whole: bool = False,
    ) -> Outcomes:
        """Classify images with a model.

        Args:
            target: The model.
            images: Files, or pixels uint8 [H, W, 3] of the model's input size.
            extras: What each gets besides its logits; the model has it.
            whole: Stretch files to the input as a whole, in place of the model's own crop.

        Raises:
            QueueFull: The model's queue has no room for all of them.
        """
        with target.model.queue.admit(len(images)):
            if len(images) == 1:
                return Outcomes([await self._outcome(target, images[0], extras, whole)])
            return Outcomes(
                await asyncio.gather(
                    *(self._outcome(target, image, extras, whole) for image in images)
                )
            )

    async def compare(self, targets: Sequence[Target], image: bytes) -> list[Outcome]:
        """What several models say of one file, which is decoded once for each input geometry.

        One that fails, because its queue is full for example, fails none of the others.
        """
        decoding: dict[Input, asyncio.Task[tuple[DecodedImage, float]]] = {}

        async def decode(geometry: Input) -> tuple[DecodedImage, float]:
            started = self._clock()
            decoded = await self._decoder.decode(image, geometry)
            return decoded, self._clock() - started

        async def ask(target: Target) -> Outcome:
            queue, manifest = target.model.queue, target.manifest
            try:
                with queue.admit(1):
                    if manifest.input not in decoding:
                        decoding[manifest.input] = asyncio.create_task(decode(manifest.input))
                    decoded, decode_s = await asyncio.shield(decoding[manifest.input])
                    found = await queue.submit(decoded.pixels, manifest.digest)
            except (ImageError, ServiceError, BundleError) as exc:
                return exc
            return found._replace(info=decoded.info, decode_s=decode_s, by_decoder=True)

        try:
            return await asyncio.gather(*map(ask, targets))
        finally:
            for task in decoding.values():
                task.cancel()

    async def _outcome(
        self, target: Target, image: bytes | Pixels, extras: Extras | None, whole: bool
    ) -> Outcome:
        try:
            return await self._classify(target, image, extras, whole)
        except (ImageError, ServiceError, BundleError) as exc:
            return exc

    async def _classify(
        self, target: Target, image: bytes | Pixels, extras: Extras | None, whole: bool
    ) -> Classification:
        queue, manifest = target.model.queue, target.manifest
        if not isinstance(image, bytes):
            return await queue.submit(image, manifest.digest, extras=extras)
        begun = self._clock()
        suspect = False
        # The model's process knows one geometry.
        if not whole and is_quick(image):
            try:
                return await queue.submit(image, manifest.digest, extras=extras)
            except ProcessLost:
                suspect = True
        started = self._clock()
        geometry = manifest.whole_input if whole else manifest.input
        decoded = await self._decoder.decode(image, geometry)
        decode_s = self._clock() - started
        left_s = queue.timeout_s - (self._clock() - begun) if suspect else None
        found = await queue.submit(
            decoded.pixels, manifest.digest, extras=extras, suspect=suspect, timeout_s=left_s
        )
        return found._replace(info=decoded.info, decode_s=decode_s, by_decoder=True)


def is_quick(data: bytes) -> bool:
    """Whether the first bytes of a file show that decoding it takes little time and memory.

    They do for JPEG with few scans, PNG and WebP, unless they are large.
    """
    if len(data) >= QUICK_BYTES:
        return False
    pixels = quick_pixels(data)
    return pixels is not None and pixels <= QUICK_PIXELS
