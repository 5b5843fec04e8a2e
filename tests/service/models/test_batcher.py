"""When a batch goes: with the queue alone, on an event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack

import numpy as np
import pytest

from service.errors import QueueFull
from service.models import batcher
from service.models.batcher import InferenceResult, Queue, hand_out

PICTURE = np.zeros((2, 2, 3), np.uint8)
PATIENCE_S = 5.0


def run(
    test: Callable[[Queue], Awaitable[None]], size: int = 32, max_batch: int = 4, streams: int = 1
) -> None:
    async def alone() -> None:
        queue = Queue(size, max_batch, PATIENCE_S)
        queue.streams = streams
        await test(queue)

    asyncio.run(alone())


def submit(queue: Queue, images: int) -> list[asyncio.Task[list[InferenceResult]]]:
    return [asyncio.create_task(queue.submit([PICTURE], "bundle")) for _ in range(images)]


def ask(queue: Queue, images: int) -> list[asyncio.Task[list[InferenceResult]]]:
    """As `submit`, of clients who each give their place back with their answer."""

    async def one() -> list[InferenceResult]:
        with queue.admit(1):
            return await queue.submit([PICTURE], "bundle")

    return [asyncio.create_task(one()) for _ in range(images)]


def answer(queue: Queue, batch: list[batcher.Waiting]) -> None:
    now = time.perf_counter()
    hand_out(batch, np.zeros((len(batch), 3), np.float32), now, now)
    queue.finished(batch)


@pytest.fixture
def long_gathering(monkeypatch: pytest.MonkeyPatch) -> None:
    """So long that a test which waits for it fails."""
    monkeypatch.setattr(batcher, "GATHER_S", 60.0)


@pytest.mark.usefixtures("long_gathering")
def test_an_image_on_its_own_does_not_wait() -> None:
    async def test(queue: Queue) -> None:
        with queue.admit(1):
            tasks = submit(queue, 1)
            batch = await queue.next_batch(PATIENCE_S)
            assert len(batch) == 1
            answer(queue, batch)
            await asyncio.gather(*tasks)

    run(test)


@pytest.mark.usefixtures("long_gathering")
def test_while_more_are_decoded_than_wait_these_wait_for_them() -> None:
    async def test(queue: Queue) -> None:
        with queue.admit(6):
            tasks = submit(queue, 2)
            assert await queue.next_batch(0.05) == []
            tasks += submit(queue, 1)
            batch = await queue.next_batch(PATIENCE_S)
            assert len(batch) == 3, "half of those that are there"
            answer(queue, batch)
            await asyncio.gather(*tasks)

    run(test)


@pytest.mark.usefixtures("long_gathering")
def test_images_do_not_wait_for_one_that_is_refused() -> None:
    async def test(queue: Queue) -> None:
        with queue.admit(2), ExitStack() as refused:
            refused.enter_context(queue.admit(3))
            tasks = submit(queue, 2)
            batch = asyncio.create_task(queue.next_batch(PATIENCE_S))
            await asyncio.sleep(0.05)
            assert not batch.done()
            refused.close()
            assert len(await asyncio.wait_for(batch, 1)) == 2
            answer(queue, batch.result())
            await asyncio.gather(*tasks)

    run(test)


def test_but_not_long() -> None:
    async def test(queue: Queue) -> None:
        with queue.admit(6):
            tasks = submit(queue, 1)
            started = time.perf_counter()
            batch = await queue.next_batch(PATIENCE_S)
            assert len(batch) == 1
            assert time.perf_counter() - started >= 0.9 * batcher.GATHER_S
            answer(queue, batch)
            await asyncio.gather(*tasks)

    run(test)


@pytest.mark.usefixtures("long_gathering")
def test_a_second_batch_follows_only_when_it_is_full_and_no_third() -> None:
    async def test(queue: Queue) -> None:
        with queue.admit(12):
            tasks = submit(queue, 7)
            first = await queue.next_batch(PATIENCE_S)
            assert len(first) == 4
            assert await queue.next_batch(0.05) == [], (
                "three are no batch while another is under way"
            )
            tasks += submit(queue, 5)
            second = await queue.next_batch(PATIENCE_S)
            assert len(second) == 4
            assert await queue.next_batch(0.05) == [], "two are under way"
            answer(queue, first)
            third = await queue.next_batch(PATIENCE_S)
            for batch in (second, third):
                answer(queue, batch)
            await asyncio.gather(*tasks)

    run(test)


@pytest.mark.usefixtures("long_gathering")
def test_streams_share_what_waits_and_one_full_batch_waits_for_them() -> None:
    async def test(queue: Queue) -> None:
        tasks = ask(queue, 15)
        first, second, third = [await queue.next_batch(PATIENCE_S) for _ in range(3)]
        assert [len(first), len(second), len(third)] == [4, 4, 4]
        assert await queue.next_batch(0.05) == [], "two run and one is in the pipe"
        assert len(queue) == 7, "those that run wait no more"
        answer(queue, first)
        await asyncio.gather(*tasks[:4])
        assert await queue.next_batch(0.05) == [], "three are no batch while both streams are busy"
        answer(queue, second)
        await asyncio.gather(*tasks[4:8])
        rest = await queue.next_batch(PATIENCE_S)
        assert len(rest) == 3, "a stream is free"
        for batch in (third, rest):
            answer(queue, batch)
        await asyncio.gather(*tasks)
        assert len(queue) == 0

    run(test, streams=2)


@pytest.mark.usefixtures("long_gathering")
def test_free_streams_divide_a_few_images_and_those_that_run_keep_nobody_waiting() -> None:
    async def test(queue: Queue) -> None:
        tasks = ask(queue, 5)
        first, second = [await queue.next_batch(PATIENCE_S) for _ in range(2)]
        assert [len(first), len(second)] == [3, 2]
        answer(queue, first)
        await asyncio.gather(*tasks[:3])
        tasks += ask(queue, 1)
        third = await queue.next_batch(PATIENCE_S)
        assert len(third) == 1
        for batch in (second, third):
            answer(queue, batch)
        await asyncio.gather(*tasks)

    run(test, streams=2)


def test_places_are_for_images_from_before_they_are_decoded_and_a_running_pass_takes_none() -> None:
    async def test(queue: Queue) -> None:
        with ExitStack() as places:
            places.enter_context(queue.admit(3))
            with (
                pytest.raises(QueueFull, match="3 images wait for this model, and 4 may"),
                queue.admit(2),
            ):
                pass
            places.enter_context(queue.admit(1))
            with pytest.raises(QueueFull):
                queue.check_room()
            tasks = submit(queue, 2)
            batch = await queue.next_batch(PATIENCE_S)
            assert len(queue) == 2
            queue.check_room()
            answer(queue, batch)
            await asyncio.gather(*tasks)
        assert len(queue) == 0

    run(test, size=4)


def test_those_whose_clients_have_gone_take_no_place_also_when_they_run() -> None:
    async def test(queue: Queue) -> None:
        gone = ask(queue, 4)
        batch = await queue.next_batch(PATIENCE_S)
        assert (len(batch), len(queue)) == (4, 0)
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)

        tasks = ask(queue, 4)
        await asyncio.sleep(0)
        assert len(queue) == 4
        with pytest.raises(QueueFull):
            queue.check_room()
        second = await queue.next_batch(PATIENCE_S)
        answer(queue, batch)
        answer(queue, second)
        await asyncio.gather(*tasks)
        assert len(queue) == 0

    run(test, size=4)
