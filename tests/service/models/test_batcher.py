"""When a batch is dispatched, and with which images: the queue alone, on an event loop."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import numpy as np
import pytest

from bundle.worker.responses import Classified, ClassifiedBatch
from service.models.batcher import Queue, hand_out
from service.models.queued import Classification, QueuedImage
from tests.service.tasks import settle

pytestmark = pytest.mark.anyio

IMAGE = np.zeros((2, 2, 3), np.uint8)
LOGITS = np.zeros(3, np.float32)
TIMEOUT_S = 60.0
NOW_S = 0.0


def new_queue(
    size: int = 32, streams: int = 1, gather_s: float = TIMEOUT_S, timeout_s: float = TIMEOUT_S
) -> Queue:
    queue = Queue(size, max_batch=4, timeout_s=timeout_s, gather_s=gather_s)
    queue.streams = streams
    return queue


async def submit(
    queue: Queue, images: int, *, suspect: bool = False
) -> list[asyncio.Task[Classification]]:
    """Queue images that are admitted already."""
    tasks = [
        asyncio.create_task(queue.submit(IMAGE, "bundle", suspect=suspect)) for _ in range(images)
    ]
    await settle()
    return tasks


async def request(
    queue: Queue, images: int, *, suspect: bool = False
) -> list[asyncio.Task[Classification]]:
    """Admit and queue images, each for a client of its own."""

    async def one() -> Classification:
        with queue.admit(1):
            return await queue.submit(IMAGE, "bundle", suspect=suspect)

    tasks = [asyncio.create_task(one()) for _ in range(images)]
    await settle()
    return tasks


async def finish(queue: Queue, *batches: list[QueuedImage]) -> None:
    """End the forward pass of batches, and let their clients have the results."""
    for batch in batches:
        hand_out(batch, ClassifiedBatch([Classified(LOGITS, None)] * len(batch), 0.0, 0.0), 0)
        queue.finished(batch)
    await settle()


async def due(queue: Queue, *, ahead: bool = False) -> list[QueuedImage]:
    """The batch that is due now."""
    return await queue.next_batch(NOW_S, ahead=ahead)


async def test_an_image_on_its_own_does_not_wait() -> None:
    queue = new_queue()
    (result,) = await request(queue, 1)
    batch = await due(queue)
    assert len(batch) == 1

    await finish(queue, batch)
    assert (await result).logits is LOGITS


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


async def test_as_many_batches_are_dispatched_as_are_asked_for_full_or_not() -> None:
    queue = new_queue(streams=2)
    tasks = await request(queue, 15)
    batches = [await due(queue) for _ in range(4)]
    assert [len(batch) for batch in batches] == [4, 4, 4, 3]
    assert await due(queue) == [], "nothing is left"
    assert len(queue) == 7, "those of two streams do not wait"
    assert queue.batch_sizes == {4: 3, 3: 1}

    await finish(queue, *batches)
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


async def test_a_batch_is_decoded_ahead_only_if_no_stream_is_free() -> None:
    queue = new_queue(streams=2)
    ahead = asyncio.create_task(queue.next_batch(TIMEOUT_S, ahead=True))
    free = asyncio.create_task(queue.next_batch(TIMEOUT_S))
    await settle()
    tasks = await request(queue, 1)
    assert (ahead.done(), free.done()) == (False, True)

    tasks += await request(queue, 1)
    assert ahead.done()

    await finish(queue, free.result(), ahead.result())
    await asyncio.gather(*tasks)


async def test_what_a_free_stream_leaves_is_decoded_ahead() -> None:
    queue = new_queue(streams=2)
    ahead = asyncio.create_task(queue.next_batch(TIMEOUT_S, ahead=True))
    free = asyncio.create_task(queue.next_batch(TIMEOUT_S))
    await settle()
    tasks = await request(queue, 5)
    assert [len(batch.result()) for batch in (free, ahead)] == [3, 2]

    await finish(queue, free.result(), ahead.result())
    await asyncio.gather(*tasks)


async def test_a_caller_whose_time_is_over_has_no_free_stream_any_more() -> None:
    queue = new_queue()
    assert await due(queue) == []
    tasks = await request(queue, 1)
    batch = await due(queue, ahead=True)
    assert len(batch) == 1
    await finish(queue, batch)
    await asyncio.gather(*tasks)


async def test_a_suspect_is_a_batch_of_its_own_also_between_others() -> None:
    queue = new_queue()
    tasks = await request(queue, 2)
    tasks += await request(queue, 1, suspect=True)
    tasks += await request(queue, 1)
    batches = [await due(queue) for _ in range(3)]
    assert [len(batch) for batch in batches] == [2, 1, 1]
    assert [batch[0].suspect for batch in batches] == [False, True, False]

    await finish(queue, *batches)
    await asyncio.gather(*tasks)


async def test_two_suspects_are_two_batches_and_neither_is_delayed() -> None:
    queue = new_queue()
    with queue.admit(12):
        tasks = await submit(queue, 2, suspect=True)
        batches = [await due(queue) for _ in range(2)]
        assert [len(batch) for batch in batches] == [1, 1]
        await finish(queue, *batches)
        await asyncio.gather(*tasks)


async def test_an_image_that_is_put_back_is_before_all_others() -> None:
    queue = new_queue()
    tasks = await request(queue, 1)
    (image,) = first = await due(queue)
    tasks += await request(queue, 2)
    image.suspect = True
    queue.put_back(image)
    queue.finished(first)

    again = await due(queue)
    assert again == [image]
    rest = await due(queue)
    assert (len(rest), image in rest) == (2, False)
    assert len(queue) == 2, "the one that was put back is counted once"

    await finish(queue, again, rest)
    await asyncio.gather(*tasks)


async def test_a_batch_that_is_given_back_is_dispatched_again_in_its_order() -> None:
    queue = new_queue()
    tasks = await request(queue, 3)
    batch = await due(queue)
    tasks += await request(queue, 1)
    queue.give_back(batch)
    assert len(queue) == 4

    again = await due(queue)
    assert (again[:3], len(again)) == (batch, 4)
    assert queue.batch_sizes.total() == 1
    await finish(queue, again)
    await asyncio.gather(*tasks)
