"""When a batch is dispatched: the queue alone, on an event loop."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import numpy as np
import pytest

from service.errors import QueueFull
from service.models.batcher import InferenceResult, Queue, QueuedImage, hand_out
from tests.service.tasks import settle

pytestmark = pytest.mark.anyio

IMAGE = np.zeros((2, 2, 3), np.uint8)
TIMEOUT_S = 60.0
NOW_S = 0.0


def new_queue(size: int = 32, streams: int = 1, gather_s: float = TIMEOUT_S) -> Queue:
    queue = Queue(size, max_batch=4, timeout_s=TIMEOUT_S, gather_s=gather_s)
    queue.streams = streams
    return queue


async def submit(queue: Queue, images: int) -> list[asyncio.Task[list[InferenceResult]]]:
    """Queue images that are admitted already."""
    tasks = [asyncio.create_task(queue.submit([IMAGE], "bundle")) for _ in range(images)]
    await settle()
    return tasks


async def request(queue: Queue, images: int) -> list[asyncio.Task[list[InferenceResult]]]:
    """Admit and queue images, each for a client of its own."""

    async def one() -> list[InferenceResult]:
        with queue.admit(1):
            return await queue.submit([IMAGE], "bundle")

    tasks = [asyncio.create_task(one()) for _ in range(images)]
    await settle()
    return tasks


async def finish(queue: Queue, *batches: list[QueuedImage]) -> None:
    """End the forward pass of batches, and let their clients have the results."""
    for batch in batches:
        hand_out(batch, np.zeros((len(batch), 3), np.float32), 0, 0)
        queue.finished(batch)
    await settle()


async def due(queue: Queue) -> list[QueuedImage]:
    """The batch that is due now."""
    return await queue.next_batch(NOW_S)


async def test_an_image_on_its_own_does_not_wait() -> None:
    queue = new_queue()
    (result,) = await request(queue, 1)
    batch = await due(queue)
    assert len(batch) == 1

    await finish(queue, batch)
    assert len(await result) == 1


async def test_while_more_are_being_decoded_than_are_queued_the_batch_is_delayed() -> None:
    queue = new_queue()
    with queue.admit(6):
        tasks = await submit(queue, 2)
        assert await due(queue) == []
        tasks += await submit(queue, 1)
        batch = await due(queue)
        assert len(batch) == 3, "half of those admitted"
        await finish(queue, batch)
        await asyncio.gather(*tasks)


async def test_images_are_not_delayed_for_one_that_is_refused() -> None:
    queue = new_queue()
    with queue.admit(2), ExitStack() as refused:
        refused.enter_context(queue.admit(3))
        tasks = await submit(queue, 2)
        batch = asyncio.create_task(queue.next_batch(TIMEOUT_S))
        await settle()
        assert not batch.done()

        refused.close()
        await settle()
        assert batch.done()
        assert len(batch.result()) == 2
        await finish(queue, batch.result())
        await asyncio.gather(*tasks)


async def test_an_image_is_delayed_for_others_for_a_bounded_time_only() -> None:
    queue = new_queue(gather_s=0.01)
    with queue.admit(6):
        tasks = await submit(queue, 1)
        batch = await queue.next_batch(TIMEOUT_S)
        assert len(batch) == 1
        await finish(queue, batch)
        await asyncio.gather(*tasks)


async def test_one_batch_is_prefetched_and_only_a_full_one() -> None:
    queue = new_queue()
    with queue.admit(12):
        tasks = await submit(queue, 7)
        first = await due(queue)
        assert len(first) == 4
        assert await due(queue) == [], "three do not fill a batch"
        tasks += await submit(queue, 5)
        second = await due(queue)
        assert len(second) == 4
        assert await due(queue) == [], "two are in flight"

        await finish(queue, first)
        third = await due(queue)
        await finish(queue, second, third)
        await asyncio.gather(*tasks)


async def test_each_stream_has_a_batch_and_one_full_batch_is_prefetched() -> None:
    queue = new_queue(streams=2)
    tasks = await request(queue, 15)
    first, second, third = [await due(queue) for _ in range(3)]
    assert [len(first), len(second), len(third)] == [4, 4, 4]
    assert await due(queue) == [], "two run and one is prefetched"
    assert len(queue) == 7, "those that run do not wait"

    await finish(queue, first)
    assert await due(queue) == [], "three do not fill a batch, and both streams are busy"
    await finish(queue, second)
    rest = await due(queue)
    assert len(rest) == 3, "a stream is free"

    await finish(queue, third, rest)
    await asyncio.gather(*tasks)
    assert len(queue) == 0


async def test_free_streams_share_a_few_images_and_those_that_run_delay_none() -> None:
    queue = new_queue(streams=2)
    tasks = await request(queue, 5)
    first, second = [await due(queue) for _ in range(2)]
    assert [len(first), len(second)] == [3, 2]

    await finish(queue, first)
    tasks += await request(queue, 1)
    third = await due(queue)
    assert len(third) == 1

    await finish(queue, second, third)
    await asyncio.gather(*tasks)


async def test_images_are_admitted_before_they_are_decoded_and_do_not_count_while_they_run() -> (
    None
):
    queue = new_queue(size=4)
    with ExitStack() as admitted:
        admitted.enter_context(queue.admit(3))
        with (
            pytest.raises(QueueFull, match="3 images wait for this model, and 4 may"),
            queue.admit(2),
        ):
            pass
        admitted.enter_context(queue.admit(1))
        with pytest.raises(QueueFull):
            queue.check_room()

        tasks = await submit(queue, 2)
        batch = await due(queue)
        assert len(queue) == 2
        queue.check_room()
        await finish(queue, batch)
        await asyncio.gather(*tasks)
    assert len(queue) == 0


async def test_images_whose_clients_have_left_do_not_count_also_while_they_run() -> None:
    queue = new_queue(size=4)
    gone = await request(queue, 4)
    batch = await due(queue)
    assert (len(batch), len(queue)) == (4, 0)
    for task in gone:
        task.cancel()
    await asyncio.gather(*gone, return_exceptions=True)

    tasks = await request(queue, 4)
    assert len(queue) == 4
    with pytest.raises(QueueFull):
        queue.check_room()
    second = await due(queue)
    await finish(queue, batch, second)
    await asyncio.gather(*tasks)
    assert len(queue) == 0
