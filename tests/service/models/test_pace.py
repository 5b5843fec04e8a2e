"""How fast a queue moves, on a clock of the test, and what it answers when it is too slow."""

from __future__ import annotations

import asyncio

import pytest

from service.errors import DeadlineUnreachable, QueueFull
from service.models.batcher import Queue
from service.models.pace import PASSES, Pace
from tests.service.models.test_batcher import due, finish, request


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_the_speed_is_that_of_passes_between_which_images_waited() -> None:
    clock = Clock()
    pace = Pace(clock)
    assert pace.seconds(10) == 0, "not known yet"

    pace.finished(1, waiting=False)
    clock.now_s = 100
    pace.finished(1, waiting=True)
    assert pace.seconds(10) == 0, "before the last pass nothing waited"
    clock.now_s = 102
    pace.finished(8, waiting=False)

    assert pace.seconds(16) == 4
    assert pace.seconds(0) == 0


def test_a_pass_that_runs_takes_as_long_again_as_it_has_taken() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.record(1, 2.0)
    pace.finished(1, waiting=True)
    clock.now_s = 30

    assert pace.seconds(3) == 6 + 30
    pace.since = None
    assert pace.seconds(3) == 6


def test_only_recent_passes_count_and_failed_ones_cost_time() -> None:
    pace = Pace(Clock())
    pace.record(1, 1000.0)
    for _ in range(PASSES // 2):
        pace.record(4, 1.0)
        pace.record(0, 1.0)

    assert pace.seconds(10) == pytest.approx(5)


@pytest.mark.anyio
async def test_a_queue_measures_its_pace_only_while_images_wait() -> None:
    clock = Clock()
    queue = Queue(size=32, max_batch=4, timeout_s=60, pace=Pace(clock))

    async def run(images: int) -> None:
        tasks = await request(queue, images)
        while batch := await due(queue):
            clock.now_s += 2
            await finish(queue, batch)
        await asyncio.gather(*tasks)

    await run(3)
    assert queue.pace.seconds(1) == 0
    clock.now_s += 1000
    await run(12)
    clock.now_s += 1000
    await run(1)

    # The second and the third pass of the twelve, of four images and two seconds each.
    assert queue.pace.seconds(1) == 0.5


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("image_s", "retry_after_s"), [(0.0, 1), (0.01, 1), (1.1, 5), (1000.0, 60)]
)
async def test_a_full_queue_says_when_it_will_have_moved(
    image_s: float, retry_after_s: int
) -> None:
    queue = Queue(size=4, max_batch=4, timeout_s=10_000)
    queue.pace.record(1, image_s)

    with queue.admit(4), pytest.raises(QueueFull) as refused:
        queue.check_room()

    assert refused.value.retry_after_s == retry_after_s


@pytest.mark.anyio
async def test_a_request_that_would_wait_too_long_is_refused_but_never_by_an_empty_queue() -> None:
    queue = Queue(size=32, max_batch=4, timeout_s=30)
    queue.pace.record(1, 10.0)
    queue.check_room(timeout_s=0.001)

    with queue.admit(2):
        queue.check_room(timeout_s=20)
        with pytest.raises(DeadlineUnreachable, match=r"2 images wait .* about 20\.0 s") as refused:
            queue.check_room(timeout_s=15.5)
        assert refused.value.retry_after_s == 5
        with queue.admit(2), pytest.raises(DeadlineUnreachable, match="limit of 30 s"):
            queue.check_room()
