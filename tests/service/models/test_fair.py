"""The queue of a model between clients with API keys: its batches, and its places."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from bundle.worker.responses import Classified, ClassifiedBatch
from service.access.key import CURRENT, Key
from service.errors import DeadlineUnreachable, QueueFull
from service.models.batcher import hand_out
from service.models.fair import FairQueue
from service.models.pace import Pace
from service.models.queued import Classification, QueuedImage
from tests.service.access.keyring import Clock, client
from tests.service.tasks import settle

pytestmark = pytest.mark.anyio

IMAGE = np.zeros((2, 2, 3), np.uint8)
LOGITS = np.zeros(3, np.float32)
Task = asyncio.Task[list[Classification]]


def new_queue(size: int = 200, max_batch: int = 4, **options: Any) -> FairQueue:
    return FairQueue(size, max_batch=max_batch, timeout_s=60.0, **options)


@contextmanager
def of(key: Key | None) -> Any:
    """What runs inside is for this client."""
    token = CURRENT.set(key)
    try:
        yield
    finally:
        CURRENT.reset(token)


async def request(queue: FairQueue, key: Key | None, requests: int, images: int = 1) -> list[Task]:
    """Send requests of a client, each with this number of images."""

    async def one() -> list[Classification]:
        with queue.admit(images):
            waiting = (queue.submit(IMAGE, "bundle") for _ in range(images))
            return list(await asyncio.gather(*waiting))

    with of(key):
        tasks = [asyncio.create_task(one()) for _ in range(requests)]
    await settle()
    return tasks


async def finish(queue: FairQueue, batch: list[QueuedImage]) -> None:
    hand_out(batch, ClassifiedBatch([Classified(LOGITS, None)] * len(batch), 0.0, 0.0), 0)
    queue.finished(batch)
    await settle()


async def finish_all(queue: FairQueue) -> None:
    while batch := await queue.next_batch(0.0):
        await finish(queue, batch)


def done(tasks: list[Task]) -> int:
    return sum(task.done() for task in tasks)


def refused(tasks: list[Task]) -> list[int]:
    """The numbers of those that were refused."""
    return [
        number
        for number, task in enumerate(tasks)
        if task.done() and isinstance(task.exception(), QueueFull)
    ]


async def test_a_client_with_one_image_is_in_the_next_batch_before_a_hundred_of_another() -> None:
    queue = new_queue()
    busy = await request(queue, client("busy"), 100)
    await finish(queue, await queue.next_batch(0.0))

    (other,) = await request(queue, client("other"), 1)
    await finish(queue, await queue.next_batch(0.0))

    assert other.done()
    assert done(busy) == 7
    await finish_all(queue)
    assert done(busy) == 100


async def test_batches_have_the_shares_of_the_weights() -> None:
    queue = new_queue()
    heavy = await request(queue, client("heavy", weight=3), 60)
    light = await request(queue, client("light"), 60)

    shares = []
    for _ in range(10):
        await finish(queue, await queue.next_batch(0.0))
        shares.append((done(heavy), done(light)))

    assert shares[-1] == (30, 10)
    assert all(abs(first - 3 * second) <= 3 for first, second in shares), "in every batch"
    await finish_all(queue)


async def test_one_client_may_use_the_whole_queue_and_waits_in_order() -> None:
    queue, only = new_queue(size=4), client("only")
    tasks = await request(queue, only, 4)
    assert len(queue) == 4

    more = await request(queue, only, 1)

    assert refused(more) == [0]
    await finish_all(queue)
    assert refused(tasks) == []


async def test_in_a_full_queue_the_newest_request_above_its_share_makes_room() -> None:
    queue, busy, other = new_queue(size=4), client("busy"), client("other")
    waiting = await request(queue, busy, 4)

    first = await request(queue, other, 1)
    assert refused(waiting) == [3]
    second = await request(queue, other, 1)
    assert refused(waiting) == [2, 3]
    third = await request(queue, other, 1)

    assert refused(third) == [0], "it would be above its share"
    assert len(queue) == 4
    await finish_all(queue)
    assert [done(first), done(second), done(waiting)] == [1, 1, 4]
    assert (refused(first + second), len(queue), queue.is_used) == ([], 0, False)
    with pytest.raises(QueueFull, match="the newest of a client that has more than its share"):
        await waiting[3]


async def test_the_shares_are_by_weight() -> None:
    queue, busy, heavy = new_queue(size=8), client("busy"), client("heavy", weight=3)
    waiting = await request(queue, busy, 8)

    tasks = await request(queue, heavy, 8)

    assert (len(refused(waiting)), len(refused(tasks))) == (6, 2)
    await finish_all(queue)


async def test_two_that_arrive_at_once_displace_one_each() -> None:
    queue, busy = new_queue(size=4), client("busy")
    waiting = await request(queue, busy, 4)

    async def admit(name: str) -> None:
        with of(client(name)), queue.admit(1):
            await settle()

    await asyncio.gather(admit("a"), admit("b"))

    assert refused(waiting) == [2, 3]
    await finish_all(queue)


async def test_a_request_of_several_images_makes_room_as_a_whole_and_its_places_are_used() -> None:
    queue, busy, other = new_queue(size=4), client("busy"), client("other")
    (batch,) = await request(queue, busy, 1, images=4)

    tasks = await request(queue, other, 2)

    assert refused([batch]) == [0]
    assert len(queue) == 2
    again = await request(queue, busy, 2)
    assert refused([*tasks, *again]) == []
    await finish_all(queue)


async def test_what_runs_is_not_displaced_and_does_not_count() -> None:
    queue, busy, other = new_queue(size=4), client("busy"), client("other")
    running = await request(queue, busy, 1, images=4)
    batch = await queue.next_batch(0.0)
    assert (len(batch), len(queue)) == (4, 0)
    thirds = await request(queue, client("third"), 4)

    tasks = await request(queue, other, 1)

    assert (refused(running), refused(thirds), refused(tasks)) == ([], [3], [])
    await finish(queue, batch)
    assert done(running) == 1
    await finish_all(queue)


async def test_images_in_a_decoder_are_displaced_too() -> None:
    queue = new_queue(size=2)
    decoding = asyncio.Event()

    async def decode() -> None:
        with queue.admit(1):
            await decoding.wait()

    with of(client("busy")):
        tasks = [asyncio.create_task(decode()) for _ in range(2)]
    await settle()

    (other,) = await request(queue, client("other"), 1)

    assert isinstance(tasks[1].exception(), QueueFull)
    decoding.set()
    await finish_all(queue)
    await asyncio.gather(tasks[0], other)


async def test_a_client_that_leaves_as_it_is_displaced_is_cancelled_and_not_refused() -> None:
    queue, busy = new_queue(size=2), client("busy")
    staying, leaving = await request(queue, busy, 2)
    leaving.cancel()

    with of(client("other")), queue.admit(1):
        await settle()
        assert (leaving.cancelled(), staying.done()) == (True, False)
        assert len(queue) == 2
    await finish_all(queue)
    assert len(queue) == 0


async def test_only_the_images_that_come_first_count_for_a_deadline() -> None:
    clock = Clock()
    queue = new_queue(pace=Pace(clock))
    queue.pace.record(10, 1.0)
    busy = client("busy")
    tasks = await request(queue, busy, 100)

    with of(client("other")):
        queue.check_room(timeout_s=0.2)
        with pytest.raises(DeadlineUnreachable, match="1 images wait"):
            queue.check_room(timeout_s=0.05)
        with pytest.raises(DeadlineUnreachable, match="50 images wait"):
            queue.check_room(50, timeout_s=1.0)
    with of(client("heavy", weight=4)), pytest.raises(DeadlineUnreachable, match="13 images wait"):
        queue.check_room(50, timeout_s=1.0)
    with pytest.raises(DeadlineUnreachable, match="100 images wait"), of(busy):
        queue.check_room(100, timeout_s=1.0)

    await finish_all(queue)
    assert done(tasks) == 100


async def test_requests_without_a_key_are_one_client() -> None:
    queue = new_queue(size=4)
    waiting = await request(queue, None, 4)

    tasks = await request(queue, client("other"), 2)

    assert (refused(waiting), refused(tasks)) == ([2, 3], [])
    await finish_all(queue)
    assert Counter(map(type, [task.exception() for task in waiting]))[QueueFull] == 2
