"""The response cache alone, where order and memory can be controlled."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from bundle.format.manifest import Manifest, parse_manifest
from bundle.imaging.decode import ImageInfo
from bundle.worker.responses import RuntimeInfo
from service.cache import Cache, Classified, Result, Target
from service.errors import QueueFull
from service.models.batcher import InferenceResult
from service.models.model import ServedModel


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


def computed(number: float, classes: int = 10) -> Result:
    """The result of one image of a batch of 32, as received from the processes."""
    info = ImageInfo("JPEG", 500, 400, "RGB", ["decoded_at_1_4", "exif_orientation_6"])
    received = ImageInfo(**json.loads(json.dumps(asdict(info))))  # shares no text with another
    logits = np.full((32, classes), number, np.float32)
    return Result(Classified(received, InferenceResult(logits[0], 0.01, 0.02)), 0.1)


def work(number: float, classes: int = 10) -> Callable[[], Awaitable[Result]]:
    async def run() -> Result:
        return computed(number, classes)

    return run


def logit(found: tuple[Result, str]) -> float:
    return float(found[0].image.inference.logits[0])


async def until(condition: Callable[[], bool]) -> None:
    """Let the other tasks run until `condition` holds."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - the cache has no event for it
            await asyncio.sleep(0)


def test_an_artifact_never_uses_the_entries_of_another() -> None:
    async def main() -> None:
        cache, model = Cache(2**20), Model()
        assert logit(await cache.one(model.target(), b"x", work(1))) == 1
        model.start("openvino-fp32")
        assert logit(await cache.one(model.target(), b"x", work(2))) == 2
        model.start("openvino-fp32", "cuda")
        assert logit(await cache.one(model.target(), b"x", work(3))) == 3
        model.start("openvino-int8")
        assert logit(await cache.one(model.target(), b"x", work(4))) == 1

    asyncio.run(main())


def test_a_result_during_which_the_process_was_replaced_is_not_cached() -> None:
    async def main() -> None:
        cache, model = Cache(2**20), Model()

        async def restarted() -> Result:
            model.start("openvino-fp32")
            return computed(1)

        _, status = await cache.one(model.target(), b"x", restarted)

        assert status == "fwd=miss"
        assert len(cache) == 0

    asyncio.run(main())


def test_work_is_cancelled_when_the_last_client_leaves_and_started_again_for_the_next() -> None:
    async def main() -> None:
        cache, model, cancelled = Cache(2**20), Model(), []

        async def endless() -> Result:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.append(True)
            raise AssertionError

        clients = [asyncio.create_task(cache.one(model.target(), b"x", endless)) for _ in range(2)]
        await until(lambda: cache.lookups["collapsed"] == 1)
        clients[0].cancel()
        await asyncio.wait(clients[:1])
        assert not cancelled
        clients[1].cancel()
        # One step: the client has left, and the work is about to be cancelled.
        await asyncio.sleep(0)
        next_one = await cache.one(model.target(), b"x", work(1))
        await asyncio.gather(*clients, return_exceptions=True)

        assert cancelled == [True]
        assert next_one[1] == "fwd=miss; stored"
        assert cache.lookups == {"hit": 0, "miss": 2, "collapsed": 1}

    asyncio.run(main())


def test_a_failure_reaches_all_waiting_requests_and_the_next_one_computes_again() -> None:
    async def main() -> None:
        cache, model = Cache(2**20), Model()

        async def refused() -> Result:
            await until(lambda: cache.lookups["collapsed"] == 2)
            raise QueueFull("full")

        requests = [cache.one(model.target(), b"x", refused) for _ in range(3)]
        failures = await asyncio.gather(*requests, return_exceptions=True)

        assert [type(failure) for failure in failures] == [QueueFull] * 3
        assert logit(await cache.one(model.target(), b"x", work(1))) == 1

    asyncio.run(main())


def test_the_least_recently_used_entries_go_first() -> None:
    async def main() -> None:
        cache, model = Cache(10_000), Model()

        async def lookup(name: bytes) -> str:
            return (await cache.one(model.target(), name, work(1)))[1]

        await lookup(b"first")
        for number in range(100):
            await lookup(b"%d" % number)
            assert cache.held_bytes <= cache.max_bytes
            assert await lookup(b"first") == "hit"
        assert len(cache) > 5
        assert await lookup(b"0") == "fwd=miss; stored"

    asyncio.run(main())


def test_a_result_larger_than_the_cache_is_not_stored() -> None:
    async def main() -> None:
        cache = Cache(10_000)

        _, status = await cache.one(Model().target(), b"x", work(1, classes=5_000))

        assert (status, len(cache)) == ("fwd=miss", 0)

    asyncio.run(main())


@pytest.mark.parametrize("classes", [10, 1000])
# Just before and after the tables of the cache grow.
@pytest.mark.parametrize("entries", [1_000, 1_500])
def test_the_counted_bytes_are_those_in_memory(classes: int, entries: int) -> None:
    async def main() -> tuple[int, Cache]:
        cache, model = Cache(2**30), Model()
        before = tracemalloc.get_traced_memory()[0]
        for number in range(entries):
            await cache.one(model.target(), b"%d" % number, work(1, classes))
        return tracemalloc.get_traced_memory()[0] - before, cache

    tracemalloc.start()
    try:
        held, cache = asyncio.run(main())
    finally:
        tracemalloc.stop()

    assert 0.9 < cache.held_bytes / held < 1.35


def test_the_digest_of_a_bundle_is_that_of_its_manifest(torch_bundle_root: Path) -> None:
    text = (torch_bundle_root / "tiny-torch" / "1" / "manifest.json").read_text()
    record = json.loads(text)
    other = record | {"description": "Another."}

    digests = [
        parse_manifest(json.dumps(each, indent=4).encode()).digest
        for each in (record, record, other)
    ]

    assert digests[0] == digests[1] != digests[2]
