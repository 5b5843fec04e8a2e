"""The response cache for requests with several images, which may overlap."""

from __future__ import annotations

import asyncio

import pytest

from bundle.errors import UnreadableImage
from service.classifier import CacheUse
from service.errors import QueueFull
from tests.service.tasks import settle
from tests.service.test_cache import HIT, MISS, Setting, logit

pytestmark = pytest.mark.anyio


async def test_a_batch_computes_what_is_not_cached_and_has_its_outcomes_in_order() -> None:
    setting = Setting()
    await setting.number(1, b"a")
    setting.work.number = 2
    found = await setting.classify(b"b", b"a", b"c")

    assert [logit(outcome) for outcome in found.images] == [2, 1, 2]
    assert found.cache == CacheUse(hits=1, collapsed=0, computed=2, stored=2)
    assert setting.work.begun == [[b"a"], [b"b", b"c"]]
    assert await setting.use(b"c", b"b") == CacheUse(hits=2, collapsed=0, computed=0, stored=0)


async def test_an_image_that_is_twice_in_a_batch_is_computed_once() -> None:
    setting = Setting()
    found = await setting.classify(b"a", b"b", b"a")

    assert setting.work.begun == [[b"a", b"b"]]
    assert [logit(outcome) for outcome in found.images] == [1, 1, 1]
    assert found.cache == CacheUse(hits=0, collapsed=0, computed=2, stored=2)
    assert setting.cache.lookups == {"hit": 0, "miss": 3, "collapsed": 0}
    assert await setting.use(b"a", b"a") == HIT


async def test_a_failed_image_of_a_batch_is_not_stored_and_the_others_are() -> None:
    setting = Setting()
    failure = UnreadableImage("broken")
    setting.work.failures = {b"b": failure}
    found = await setting.classify(b"a", b"b", b"c")

    assert found.images[1] is failure
    assert found.cache == CacheUse(hits=0, collapsed=0, computed=3, stored=2)
    assert await setting.use(b"a", b"b", b"c") == CacheUse(2, 0, computed=1, stored=0)
    assert setting.work.begun[1:] == [[b"b"]]


async def test_a_batch_joins_the_computation_of_one_of_its_images_and_computes_the_others() -> None:
    setting = Setting()
    setting.work.may_end.clear()
    one = await setting.send(b"b")
    setting.work.number = 2
    batch = await setting.send(b"a", b"b", b"c")
    assert setting.work.begun == [[b"b"], [b"a", b"c"]]
    setting.work.may_end.set()

    found = await batch
    assert [logit(outcome) for outcome in found.images] == [2, 2, 2]
    assert found.cache == CacheUse(hits=0, collapsed=1, computed=2, stored=2)
    assert (await one).cache == MISS
    assert len(setting.cache) == 3


async def test_two_batches_that_overlap_compute_each_image_once() -> None:
    setting = Setting()
    setting.work.may_end.clear()
    setting.work.failures = {b"b": UnreadableImage("broken")}
    batches = [await setting.send(*images) for images in ([b"a", b"b"], [b"b", b"c"])]
    assert setting.work.begun == [[b"a", b"b"], [b"c"]]
    setting.work.may_end.set()

    first, second = await asyncio.gather(*batches)
    assert first.cache == CacheUse(hits=0, collapsed=0, computed=2, stored=1)
    assert second.cache == CacheUse(hits=0, collapsed=1, computed=1, stored=1)
    assert first.images[1] is second.images[0], "the failure too"


async def test_a_batch_that_another_one_joined_is_computed_to_the_end_when_its_client_leaves() -> (
    None
):
    setting = Setting()
    setting.work.may_end.clear()
    first, second = [await setting.send(*images) for images in ([b"a", b"b"], [b"b", b"c"])]
    first.cancel()
    await settle()
    assert first.cancelled()
    assert not setting.work.cancelled

    setting.work.may_end.set()
    assert [logit(outcome) for outcome in (await second).images] == [1, 1]
    assert await setting.use(b"a") == HIT


async def test_when_the_clients_of_overlapping_batches_leave_all_their_work_is_cancelled() -> None:
    setting = Setting()
    setting.work.may_end.clear()
    batches = [await setting.send(*images) for images in ([b"a", b"b"], [b"b", b"c"])]
    for batch in batches:
        batch.cancel()
    await settle()

    assert sorted(setting.work.cancelled) == [[b"a", b"b"], [b"c"]]
    setting.work.may_end.set()
    assert await setting.use(b"b") == MISS


async def test_a_batch_is_refused_as_a_whole_and_its_next_request_computes_again() -> None:
    setting = Setting()
    await setting.classify(b"a")
    setting.work.refusal = QueueFull("full")
    with pytest.raises(QueueFull, match="full"):
        await setting.classify(b"a", b"b", b"c")

    setting.work.refusal = None
    assert await setting.use(b"a", b"b", b"c") == CacheUse(1, 0, computed=2, stored=2)
