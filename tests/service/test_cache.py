"""The response cache alone, where order and memory can be controlled."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from bundle.errors import UnreadableImage
from bundle.format.manifest import Manifest, parse_manifest
from bundle.imaging.decode import ImageInfo
from bundle.worker.responses import RuntimeInfo
from service.cache import MAX_INLINE_HASH_BYTES, Cache
from service.classifier import CacheUse, Outcome, Outcomes
from service.errors import QueueFull
from service.models.model import ServedModel, Target
from service.models.queued import Classification
from tests.service.tasks import settle

pytestmark = pytest.mark.anyio

MISS = CacheUse(hits=0, collapsed=0, computed=1, stored=1)
HIT = CacheUse(hits=1, collapsed=0, computed=0, stored=0)


class Model:
    """A model whose process can be replaced at will."""

    def __init__(self) -> None:
        self.manifest = SimpleNamespace(digest="0" * 64)
        self.start("openvino-int8")

    def start(self, artifact: str, device: str = "cpu") -> None:
        self.info = {"artifact_id": artifact, "device": device}

    def target(self) -> Target:
        return Target(
            cast("ServedModel", self),
            cast("Manifest", self.manifest),
            cast("RuntimeInfo", self.info),
        )


class Work:
    """What the cache is before: it computes a number when it may, or fails."""

    def __init__(self, classes: int) -> None:
        self.number, self.classes = 1.0, classes
        # Images of each computation, and of those that were cancelled.
        self.begun: list[list[bytes]] = []
        self.cancelled: list[list[bytes]] = []
        # Of all images of a computation, and of one of them.
        self.refusal: Exception | None = None
        self.failures: dict[bytes, UnreadableImage] = {}
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def classify(self, target: Target, images: Sequence[bytes]) -> Outcomes:  # noqa: ARG002
        self.begun.append(list(images))
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled.append(list(images))
            raise
        if self.refusal is not None:
            raise self.refusal
        return Outcomes([self._outcome(image) for image in images])

    def _outcome(self, image: bytes) -> Outcome:
        return self.failures.get(image) or computed(self.number, self.classes)


def computed(number: float, classes: int) -> Classification:
    """The result of one image of a batch of 32, as received from the process."""
    info = ImageInfo("JPEG", 500, 400, "RGB", ["decoded_at_1_4", "exif_orientation_6"])
    received = ImageInfo(**json.loads(json.dumps(asdict(info))))  # shares no text with another
    logits = np.full((32, classes), number, np.float32)
    return Classification(logits[0], received, 0.1, 0.01, 0.02)


class Setting:
    """A cache before its work, and the model that is asked."""

    def __init__(self, max_bytes: int = 2**20, classes: int = 10) -> None:
        self.work, self.model = Work(classes), Model()
        self.cache = Cache(self.work.classify, max_bytes)

    async def classify(self, *images: bytes) -> Outcomes:
        return await self.cache.classify(self.model.target(), images)

    async def send(self, *images: bytes) -> asyncio.Task[Outcomes]:
        task = asyncio.create_task(self.classify(*images))
        await settle()
        return task

    async def number(self, number: float, image: bytes = b"x") -> float:
        """What comes of the image where `number` would be computed."""
        self.work.number = number
        (outcome,) = (await self.classify(image)).images
        return logit(outcome)

    async def use(self, *images: bytes) -> CacheUse | None:
        return (await self.classify(*images)).cache


def logit(outcome: Outcome) -> float:
    assert isinstance(outcome, Classification)
    return float(outcome.logits[0])


async def test_an_artifact_never_uses_the_entries_of_another() -> None:
    setting = Setting()
    assert await setting.number(1) == 1
    setting.model.start("openvino-fp32")
    assert await setting.number(2) == 2
    setting.model.start("openvino-fp32", "cuda")
    assert await setting.number(3) == 3
    setting.model.start("openvino-int8")
    assert await setting.number(4) == 1


async def test_a_hit_has_the_description_of_the_image_and_took_no_time() -> None:
    setting = Setting()
    (first,) = (await setting.classify(b"x")).images
    found = await setting.classify(b"x")

    assert found.cache == HIT
    (second,) = found.images
    assert isinstance(first, Classification)
    assert isinstance(second, Classification)
    assert (second.info, second[2:5]) == (first.info, (0, 0, 0))
    assert first[2:5] == (0.1, 0.01, 0.02)


async def test_a_large_image_is_found_too() -> None:
    setting = Setting()
    large = bytes(MAX_INLINE_HASH_BYTES + 1)
    assert await setting.use(large) == MISS
    assert await setting.use(large) == HIT
    assert await setting.use(large + b"x") == MISS


async def test_a_result_during_which_the_process_was_replaced_is_not_cached() -> None:
    setting = Setting()
    setting.work.may_end.clear()
    request = await setting.send(b"x")
    setting.model.start("openvino-fp32")
    setting.work.may_end.set()

    assert (await request).cache == CacheUse(0, 0, computed=1, stored=0)
    assert len(setting.cache) == 0


async def test_work_is_cancelled_when_the_last_client_leaves_and_started_again_for_the_next() -> (
    None
):
    setting = Setting()
    setting.work.may_end.clear()
    clients = [await setting.send(b"x") for _ in range(2)]
    clients[0].cancel()
    await settle()
    assert not setting.work.cancelled
    clients[1].cancel()
    # One step: the client has left, and the work is about to be cancelled.
    await asyncio.sleep(0)
    setting.work.may_end.set()
    assert await setting.use(b"x") == MISS
    await asyncio.gather(*clients, return_exceptions=True)

    assert setting.work.cancelled == [[b"x"]]
    assert setting.cache.lookups == {"hit": 0, "miss": 2, "collapsed": 1}


async def test_a_client_that_leaves_ends_no_work_for_another_image() -> None:
    setting = Setting()
    setting.work.may_end.clear()
    leaving, staying = await setting.send(b"x"), await setting.send(b"y")
    leaving.cancel()
    await settle()
    joining = await setting.send(b"y")
    setting.work.may_end.set()
    await asyncio.gather(staying, joining)

    assert setting.work.begun == [[b"x"], [b"y"]]
    assert setting.work.cancelled == [[b"x"]]


async def test_concurrent_requests_for_an_image_share_its_result_and_only_one_computed_it() -> None:
    setting = Setting()
    setting.work.may_end.clear()
    requests = [await setting.send(b"x") for _ in range(3)]
    setting.work.may_end.set()
    found = await asyncio.gather(*requests)

    assert setting.work.begun == [[b"x"]]
    assert [each.cache for each in found] == [
        MISS,
        *[CacheUse(0, collapsed=1, computed=0, stored=0)] * 2,
    ]
    for outcome in (each.images[0] for each in found[1:]):
        assert isinstance(outcome, Classification)
        assert (outcome.decode_s, outcome.inference_s) == (0, 0)
        assert outcome.queue_s > 0


async def test_a_failure_reaches_all_waiting_requests_and_the_next_one_computes_again() -> None:
    setting = Setting()
    setting.work.may_end.clear()
    setting.work.refusal = QueueFull("full")
    requests = [await setting.send(b"x") for _ in range(3)]
    setting.work.may_end.set()
    failures = await asyncio.gather(*requests, return_exceptions=True)

    assert [type(failure) for failure in failures] == [QueueFull] * 3
    setting.work.refusal = None
    assert await setting.number(1) == 1


async def test_the_least_recently_used_entries_go_first() -> None:
    setting = Setting(max_bytes=10_000)
    cache = setting.cache
    await setting.classify(b"first")
    for number in range(100):
        await setting.classify(b"%d" % number)
        assert cache.held_bytes <= cache.max_bytes
        assert await setting.use(b"first") == HIT
    assert len(cache) > 5
    assert await setting.use(b"0") == MISS


async def test_a_result_larger_than_the_cache_is_not_stored() -> None:
    setting = Setting(max_bytes=10_000, classes=5_000)

    assert await setting.use(b"x") == CacheUse(0, 0, computed=1, stored=0)
    assert len(setting.cache) == 0


@pytest.mark.parametrize("classes", [10, 1000])
# Just before and after the tables of the cache grow.
@pytest.mark.parametrize("entries", [1_000, 1_500])
async def test_the_counted_bytes_are_those_in_memory(classes: int, entries: int) -> None:
    setting = Setting(max_bytes=2**30, classes=classes)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(entries):
            await setting.classify(b"%d" % number)
            setting.work.begun.clear()
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()

    assert 0.9 < setting.cache.held_bytes / held < 1.35


def test_the_digest_of_a_bundle_is_that_of_its_manifest(quick_root: Path) -> None:
    text = (quick_root / "tiny-torch" / "1" / "manifest.json").read_text()
    record = json.loads(text)
    other = record | {"description": "Another."}

    digests = [
        parse_manifest(json.dumps(each, indent=4).encode()).digest
        for each in (record, record, other)
    ]

    assert digests[0] == digests[1] != digests[2]
