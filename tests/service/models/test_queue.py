"""Who is admitted to the queue, and what becomes of an image in it."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextlib import ExitStack

import numpy as np
import pytest

from bundle.errors import ImageError, UnreadableImage
from bundle.imaging.decode import ImageInfo
from bundle.worker.responses import Classified, ClassifiedBatch
from service.errors import ModelRefused, ModelUnavailable, QueueFull
from service.models.batcher import hand_out
from tests.service.models.test_batcher import LOGITS, due, finish, new_queue, request, submit
from tests.service.tasks import settle

pytestmark = pytest.mark.anyio


async def test_an_image_without_a_result_in_time_is_not_dispatched_any_more() -> None:
    queue = new_queue(timeout_s=0.01)
    (task,) = await request(queue, 1)
    with pytest.raises(ModelUnavailable, match=r"not answered within 0\.01 s"):
        await task
    assert await due(queue) == []
    assert len(queue) == 0


async def test_a_queue_that_is_closed_fails_what_it_has_and_what_comes() -> None:
    queue = new_queue()
    tasks = await request(queue, 3)
    batch = await due(queue)
    tasks += await request(queue, 2)
    queue.close(ModelRefused("why"))
    tasks += await request(queue, 1)
    for task in tasks:
        with pytest.raises(ModelRefused, match="why"):
            await task

    await finish(queue, batch)
    assert await due(queue) == []
    assert len(queue) == 0


async def test_each_image_has_its_own_result_and_the_times_of_its_batch() -> None:
    queue = new_queue()
    tasks = await request(queue, 4)
    batch = await due(queue)
    tasks[3].cancel()
    await settle()
    info = ImageInfo("PNG", 2, 2, "RGB", [])
    found: list[Classified | ImageError] = [
        Classified(LOGITS + 1, info),
        UnreadableImage("broken"),
        Classified(LOGITS, None),
        Classified(LOGITS, None),
    ]
    # Five seconds in the queue, and for a stream.
    hand_out(batch, ClassifiedBatch(found, 0.25, 0.75), batch[0].since + 6)
    queue.finished(batch)

    first = await tasks[0]
    assert (first.logits.tolist(), first.info) == ([1, 1, 1], info)
    assert first.decode_s == 0.25
    assert first.queue_s == pytest.approx(5)
    assert first.inference_s == pytest.approx(0.75)
    with pytest.raises(UnreadableImage, match="broken"):
        await tasks[1]
    assert (await tasks[2]).info is None


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


async def test_an_image_whose_client_leaves_while_it_is_queued_is_not_dispatched() -> None:
    queue = new_queue()
    gone, kept = await request(queue, 2)
    gone.cancel()
    await settle()
    batch = await due(queue)
    assert len(batch) == 1
    await finish(queue, batch)
    await kept


async def test_an_image_whose_client_leaves_is_not_kept_while_nobody_pulls() -> None:
    queue = new_queue()
    image = np.zeros((2, 2, 3), np.uint8)
    held = weakref.ref(image)
    task = asyncio.create_task(queue.submit(image, "bundle"))
    await settle()
    del image
    task.cancel()
    del task
    await settle()
    gc.collect()
    assert held() is None
