"""Which way a file takes to the network: a fake decoder and a fake queue, without a process."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from PIL import Image

from bundle.errors import ImageTooLarge, RuntimeUnavailable, UnreadableImage
from bundle.format.manifest import Input, parse_manifest
from bundle.imaging.decode import DecodedImage, ImageInfo
from bundle.worker.model_process import Pixels
from bundle.worker.responses import Extras, RuntimeInfo
from service.classifier import QUICK_BYTES, Classifier, is_quick
from service.decoding.pool import Decoder
from service.errors import DecodeTimeout, ModelUnavailable, QueueFull
from service.models.batcher import Queue
from service.models.model import ServedModel, Target
from service.models.queued import Classification, ProcessLost
from tests.bundle.format.test_manifest import record
from tests.service.images import coloured, encode
from tests.service.tasks import settle

pytestmark = pytest.mark.anyio

MANIFEST = parse_manifest(json.dumps(record()).encode())
QUICK = coloured()
SLOW = coloured(kind="GIF")
PIXELS = np.zeros((2, 2, 3), np.uint8)
# Of the worker of the model, and of a decoder.
FILE_INFO = ImageInfo("PNG", 48, 40, "RGB", [])
DECODED_INFO = ImageInfo("GIF", 48, 40, "P", ["palette_to_rgb"])
LOGITS = np.zeros(3, np.float32)


class FakeDecoder(Decoder):
    """Decodes when it may, and fails on some files."""

    def __init__(self) -> None:
        self.files: list[bytes] = []
        self.errors: dict[bytes, Exception] = {}
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def decode(self, data: bytes, geometry: Input) -> DecodedImage:
        assert geometry == MANIFEST.input
        self.files.append(data)
        await self.may_end.wait()
        if error := self.errors.get(data):
            raise error
        return DecodedImage(PIXELS, DECODED_INFO)


class FakeQueue(Queue):
    """Answers at once, and fails on some images."""

    def __init__(self, size: int) -> None:
        super().__init__(size, max_batch=4, timeout_s=60)
        self.images: list[tuple[bytes | str, bool]] = []
        self.extras: list[Extras | None] = []
        self.errors: dict[bytes | str, Exception] = {}

    async def submit(
        self,
        image: bytes | Pixels,
        bundle: str,
        *,
        extras: Extras | None = None,
        suspect: bool = False,
        timeout_s: float | None = None,
    ) -> Classification:
        assert (timeout_s is not None) == suspect, "the time limit is that of the request"
        assert timeout_s is None or 0 < timeout_s < self.timeout_s
        assert bundle == MANIFEST.digest
        assert len(self) > 0, "it is admitted"
        kind = image if isinstance(image, bytes) else "pixels"
        self.images.append((kind, suspect))
        self.extras.append(extras)
        if error := self.errors.get(kind):
            raise error
        if isinstance(image, bytes):
            return Classification(LOGITS, FILE_INFO, 0.25, 0.5, 1.0)
        assert image is PIXELS
        return Classification(LOGITS, None, 0.0, 0.5, 1.0)


class Service:
    """A classifier over fakes."""

    def __init__(self, size: int = 32) -> None:
        self.decoder, self.queue = FakeDecoder(), FakeQueue(size)
        model = cast("ServedModel", SimpleNamespace(queue=self.queue))
        self._target = Target(model, MANIFEST, cast("RuntimeInfo", {}))
        self._classifier = Classifier(self.decoder, self.clock)
        self.now_s = 0.0

    def clock(self) -> float:
        """A second later each time."""
        self.now_s += 1
        return self.now_s

    async def classify(
        self, *images: bytes, extras: Extras | None = None
    ) -> list[Classification | Exception]:
        outcomes = await self._classifier.classify(self._target, images, extras)
        assert outcomes.cache is None
        assert len(self.queue) == 0, "none is admitted any more"
        return list(outcomes.images)


async def test_a_file_that_is_quick_to_decode_goes_to_the_model_as_it_is() -> None:
    service = Service()

    assert await service.classify(QUICK) == [Classification(LOGITS, FILE_INFO, 0.25, 0.5, 1.0)]
    assert service.queue.images == [(QUICK, False)]
    assert service.queue.extras == [None]
    assert service.decoder.files == []


async def test_the_pixels_of_any_other_file_come_from_a_decoder() -> None:
    service = Service()

    (found,) = await service.classify(SLOW)

    assert service.decoder.files == [SLOW]
    assert service.queue.images == [("pixels", False)]
    assert isinstance(found, Classification)
    assert (found.info, found.queue_s, found.inference_s) == (DECODED_INFO, 0.5, 1.0)


async def test_the_time_in_a_decoder_is_measured() -> None:
    service = Service()
    service.decoder.may_end.clear()
    classifying = asyncio.create_task(service.classify(SLOW))
    await settle()
    service.now_s += 5
    service.decoder.may_end.set()
    (found,) = await classifying

    assert isinstance(found, Classification)
    assert found.decode_s == 6, "and one for the reading of the clock"


async def test_a_file_whose_process_was_lost_is_decoded_elsewhere_and_runs_as_a_suspect() -> None:
    service = Service()
    service.queue.errors = {QUICK: ProcessLost()}

    (found,) = await service.classify(QUICK)

    assert service.decoder.files == [QUICK]
    assert service.queue.images == [(QUICK, False), ("pixels", True)]
    assert isinstance(found, Classification)
    assert found.info == DECODED_INFO


async def test_a_file_that_ends_its_process_and_its_decoder_is_an_error_of_its_own() -> None:
    service = Service()
    service.queue.errors = {QUICK: ProcessLost()}
    service.decoder.errors = {QUICK: UnreadableImage("it ended the decoder")}

    (found,) = await service.classify(QUICK)

    assert isinstance(found, UnreadableImage)
    assert service.queue.images == [(QUICK, False)]


@pytest.mark.parametrize(
    "error",
    [UnreadableImage("x"), ModelUnavailable("x"), RuntimeUnavailable("x")],
    ids=["image", "service", "bundle"],
)
async def test_the_failure_of_one_file_is_its_outcome(error: Exception) -> None:
    service = Service()
    service.queue.errors = {QUICK: error}

    assert await service.classify(QUICK) == [error]


async def test_outcomes_are_in_the_order_of_the_files_failures_included() -> None:
    service = Service()
    broken, slow_broken = coloured("green"), coloured("green", kind="GIF")
    late = coloured("blue", kind="GIF")
    service.queue.errors = {broken: UnreadableImage("broken")}
    service.decoder.errors = {slow_broken: ImageTooLarge("large"), late: DecodeTimeout("late")}

    outcomes = await service.classify(SLOW, broken, QUICK, slow_broken, late, QUICK)

    names = [type(outcome).__name__ for outcome in outcomes]
    assert names == [
        "Classification",
        "UnreadableImage",
        "Classification",
        "ImageTooLarge",
        "DecodeTimeout",
        "Classification",
    ]
    infos = [outcome.info for outcome in outcomes if isinstance(outcome, Classification)]
    assert infos == [DECODED_INFO, FILE_INFO, FILE_INFO]


async def test_files_for_which_the_queue_has_no_room_are_refused_before_they_are_decoded() -> None:
    service = Service(size=2)
    service.decoder.may_end.clear()
    first = asyncio.create_task(service.classify(SLOW, SLOW))
    await settle()

    for images in ([QUICK], [SLOW, QUICK]):
        with pytest.raises(QueueFull, match="2 images wait for this model, and 2 may"):
            await service.classify(*images)
    assert len(service.decoder.files) == 2
    assert service.queue.images == []

    service.decoder.may_end.set()
    await first
    assert len(await service.classify(QUICK, SLOW)) == 2


async def test_a_client_that_leaves_is_not_admitted_any_more() -> None:
    service = Service()
    service.decoder.may_end.clear()
    leaving = asyncio.create_task(service.classify(SLOW, SLOW))
    await settle()
    assert len(service.queue) == 2

    leaving.cancel()
    await settle()
    assert leaving.cancelled()
    assert len(service.queue) == 0
    service.decoder.may_end.set()
    await settle()
    assert service.queue.images == []


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (width, height))


def padded(data: bytes, size: int) -> bytes:
    return data + bytes(size - len(data))


def with_chunks(kind: bytes, count: int = 1) -> bytes:
    """A PNG with chunks of 11 bytes behind its header."""
    return QUICK[:33] + count * (b"\0\0\0\x0b" + kind + b"a\0\0" + bytes(12)) + QUICK[33:]


NOISE = Image.frombytes("RGB", (300, 300), np.random.default_rng(0).bytes(300 * 300 * 3))


FILES = {
    "baseline JPEG": (encode(picture(500, 400), "JPEG"), True),
    "progressive JPEG of few pixels": (encode(picture(48, 40), "JPEG", progressive=True), True),
    "progressive JPEG": (encode(picture(500, 400), "JPEG", progressive=True), False),
    "PNG": (QUICK, True),
    "PNG with compressed text": (with_chunks(b"zTXt"), False),
    "PNG with a profile": (with_chunks(b"iCCP"), True),
    "PNG with two profiles": (with_chunks(b"iCCP", 2), False),
    "PNG with unknown chunks": (with_chunks(b"prVt"), False),
    "PNG with many chunks": (with_chunks(b"tIME", 101), False),
    "WebP": (encode(picture(500, 400), "WEBP"), True),
    "lossless WebP": (encode(picture(500, 400), "WEBP", lossless=True), True),
    "large lossless WebP": (encode(NOISE, "WEBP", lossless=True), False),
    "GIF": (SLOW, False),
    "BMP": (coloured(kind="BMP"), False),
    "TIFF": (coloured(kind="TIFF"), False),
    "text": (b"What is it?", False),
    "empty": (b"", False),
    "start of a PNG": (QUICK[:20], False),
    "below 256 KiB": (padded(QUICK, QUICK_BYTES - 1), True),
    "256 KiB": (padded(QUICK, QUICK_BYTES), False),
    "1 megapixel": (encode(picture(1024, 1024), "PNG"), True),
    "1 megapixel of JPEG": (encode(picture(1024, 1024), "JPEG"), True),
    "more than 1 megapixel": (encode(picture(1025, 1024), "PNG"), False),
    "more than 1 megapixel of JPEG": (encode(picture(1025, 1024), "JPEG"), False),
    "more than 1 megapixel of WebP": (encode(picture(1500, 1000), "WEBP", lossless=True), False),
}


@pytest.mark.parametrize("name", FILES)
def test_only_a_file_whose_decoding_is_bounded_by_its_first_bytes_is_quick(name: str) -> None:
    data, quick = FILES[name]

    assert is_quick(data) is quick


async def test_what_an_image_gets_besides_its_logits_is_asked_for_on_every_way() -> None:
    service = Service()
    service.queue.errors = {QUICK: ProcessLost()}
    wanted = Extras(2, embedding=True)

    await service.classify(QUICK, SLOW, extras=wanted)

    assert service.queue.extras == [wanted] * 3, "one is queued twice"
