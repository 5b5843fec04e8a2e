"""The pool of decoders over fake processes: which are started, and which image goes to which."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from PIL import Image

from bundle.errors import ImageTooLarge, UnreadableImage
from bundle.imaging.decode import DecodedImage
from bundle.worker.wire import Frame, WireClosed
from service.decoding.pool import MAX_ATTEMPTS
from service.decoding.worker import PREFETCH_COST, PREFETCH_IMAGES
from service.errors import DecoderUnavailable, Draining
from tests.service.decoding.fakes import (
    DECODED,
    GEOMETRY,
    HALF,
    IMAGE,
    PIXELS,
    RESPONSE,
    SMALL,
    Machine,
    send,
    started,
)
from tests.service.images import encode
from tests.service.tasks import settle, until

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("may_start", [False, True], ids=["starting", "decoding"])
async def test_nothing_is_started_after_the_stop(may_start: bool) -> None:
    before = asyncio.all_tasks()
    machine = Machine()
    if not may_start:
        machine.may_start.clear()
    async with started(machine) as pool:
        decoding = await send(pool, SMALL, SMALL)
    results = await asyncio.gather(*decoding, return_exceptions=True)
    await settle()

    assert not [result for result in results if isinstance(result, DecodedImage)]
    assert machine.running == [False]
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize(
    "response",
    [
        ({}, [PIXELS]),
        ({"image": {}}, [PIXELS]),
        ({"image": {}}, []),
        ({"image": 3}, [PIXELS]),
        ({"image": {**IMAGE, "operations": "none"}}, [PIXELS]),
        ({"image": {**IMAGE, "mode": {"<b>": 1}}}, [PIXELS]),
        ({"image": {**IMAGE, "width": True}}, [PIXELS]),
        ({"image": {**IMAGE, "other": 1}}, [PIXELS]),
        ({"image": IMAGE}, [PIXELS[:1]]),
        ({"image": IMAGE}, [PIXELS.astype(np.int8)]),
        ({"error": [], "detail": ""}, []),
        ({"error": "unreadable_image"}, []),
        ({"error": "unreadable_image", "detail": ["what"]}, []),
        ({"error": "no_code", "detail": "what"}, []),
    ],
)
async def test_a_process_that_sends_an_invalid_frame_is_replaced(response: Frame) -> None:
    machine = Machine()
    machine.response = response
    async with started(machine) as pool:
        with pytest.raises(UnreadableImage):
            await pool.decode(SMALL, GEOMETRY)
        await settle()

        assert [len(process.images) for process in machine.processes] == [1] * MAX_ATTEMPTS + [0]
        assert machine.running == [False] * MAX_ATTEMPTS + [True]


async def test_valid_frames_are_the_image_or_the_error() -> None:
    machine = Machine()
    machine.response = RESPONSE
    async with started(machine) as pool:
        assert await pool.decode(SMALL, GEOMETRY) == DECODED
        machine.response = ({"error": "image_too_large", "detail": "what"}, [])
        with pytest.raises(ImageTooLarge, match="what"):
            await pool.decode(SMALL, GEOMETRY)

        assert machine.running == [True]


async def test_a_waiting_image_is_decoded_before_those_that_come_later() -> None:
    machine = Machine()
    async with started(machine) as pool:
        decoding = await send(pool, *HALF[:3])
        assert machine.images == HALF[:2], "the third does not fit"

        machine.response = RESPONSE
        # This hands the slot to the third image, whose task runs after that of the fourth.
        machine.processes[0].respond(RESPONSE)
        decoding.append(asyncio.create_task(pool.decode(HALF[3], GEOMETRY)))
        machine.processes[0].respond(RESPONSE)
        await asyncio.gather(*decoding)

        assert machine.images == HALF


async def test_a_client_that_leaves_as_its_slot_comes_does_not_keep_it() -> None:
    machine = Machine()
    async with started(machine) as pool:
        decoding = await send(pool, *HALF[:3])

        machine.respond_to_all()
        # The slot is handed to the third image, whose task has not run since.
        await asyncio.sleep(0)
        decoding[2].cancel()
        await asyncio.gather(*decoding, return_exceptions=True)
        async with asyncio.timeout(60):
            await asyncio.gather(*(pool.decode(HALF[3], GEOMETRY) for _ in range(4)))

        assert HALF[2] not in machine.images


SLOW = {
    "many bytes": SMALL + bytes(PREFETCH_COST),
    "many pixels": encode(Image.new("RGB", (1500, 1000), (10, 80, 200)), "WEBP", lossless=True),
    "many scans": encode(Image.new("RGB", (500, 400)), "JPEG", progressive=True),
    "unknown": encode(Image.new("P", (500, 400)), "GIF"),
}


@pytest.mark.parametrize("name", SLOW)
async def test_small_images_are_prefetched_by_the_decoder_with_the_least_cost(name: str) -> None:
    machine = Machine()
    async with started(machine, workers=2) as pool:
        decoding = await send(pool, SLOW[name])
        assert machine.in_flight == [0, 1]
        decoding += await send(pool, *[SMALL] * 3)
        assert machine.in_flight == [1, 3], "none waits behind the slow one"
        decoding += await send(pool, *[SMALL] * 12)
        assert machine.in_flight == [1, PREFETCH_IMAGES], "not even when there are many"
        machine.respond_to_all()
        assert set(await asyncio.gather(*(map(kind, decoding)))) == {"PNG"}

        machine.response = None
        decoding = await send(pool, *[SMALL] * 20)
        assert machine.in_flight == [PREFETCH_IMAGES] * 2, "all slots have been released"
        machine.respond_to_all()
        await asyncio.gather(*decoding)


async def kind(decoding: asyncio.Task[DecodedImage]) -> str:
    return (await decoding).info.format


async def test_a_decoder_that_is_killed_while_it_starts_is_started_again() -> None:
    machine = Machine()
    machine.response = RESPONSE
    machine.failures = [WireClosed("killed")]
    async with started(machine) as pool:
        assert await pool.decode(SMALL, GEOMETRY) == DECODED
        assert machine.running == [False, True]


async def test_where_no_decoder_can_be_started_requests_fail_until_a_later_start_succeeds() -> None:
    machine = Machine()
    machine.response = RESPONSE
    machine.failures = [WireClosed("killed")] * 2
    machine.may_start.clear()
    async with started(machine) as pool:
        (early,) = await send(pool, SMALL)
        machine.may_start.set()
        for decoding in (early, pool.decode(SMALL, GEOMETRY)):
            with pytest.raises(DecoderUnavailable, match="the log says why"):
                await decoding
        assert machine.running == [False, False], "a request does not start one"

        machine.delay_over.set()
        await settle()
        assert machine.running == [False, False, True]
        assert await pool.decode(SMALL, GEOMETRY) == DECODED


async def test_images_go_to_the_decoders_that_run_while_another_cannot_be_started() -> None:
    machine = Machine()
    machine.response = RESPONSE
    # Two for one of them, one for the other.
    machine.failures = [WireClosed("killed")] * 3
    async with started(machine, workers=2) as pool:
        assert sorted(machine.running) == [False, False, False, True]
        for _ in range(3):
            decoding = [pool.decode(image, GEOMETRY) for image in [SMALL] * 5 + HALF]
            assert len(await asyncio.gather(*decoding)) == 9


async def test_images_whose_decoder_ends_go_to_one_that_runs_and_not_to_one_that_starts() -> None:
    machine = Machine()
    async with started(machine, workers=2) as pool:
        decoding = await send(pool, *[SMALL] * 4)
        assert machine.in_flight == [2, 2]

        machine.may_start.clear()
        machine.processes[0].end()
        await settle()
        assert machine.in_flight == [4]
        assert len(machine.processes) == 3, "the third one is being started"

        machine.respond_to_all()
        await asyncio.gather(*decoding)


async def test_images_whose_decoder_ends_are_decoded_before_those_that_came_later() -> None:
    machine = Machine()
    async with started(machine, workers=2) as pool:
        decoding = await send(pool, *HALF * 2)
        first, second = machine.processes
        assert (first.images, second.images) == (HALF[::2], HALF[1::2])

        first.end()
        await settle()
        third = machine.processes[2]
        assert third.images == HALF[::2], "and four wait as before"
        assert (second.in_flight, third.in_flight) == (2, 2)

        machine.respond_to_all()
        await asyncio.gather(*decoding)
        assert sorted(second.images[2:] + third.images[2:]) == sorted(HALF)


async def test_a_defect_in_the_start_of_one_decoder_does_not_keep_another_from_restarting() -> None:
    machine = Machine()
    async with started(machine, workers=2):
        machine.failures = [ValueError("unexpected")]
        for process in machine.processes:
            process.end()
        await until(lambda: len(machine.processes) == 4)
        assert sorted(machine.running) == [False, False, False, True]

        machine.delay_over.set()
        await until(lambda: sum(machine.running) == 2)


async def test_a_slot_that_is_handed_over_as_the_pool_stops_is_not_used() -> None:
    machine = Machine()
    async with started(machine) as pool:
        decoding = await send(pool, *HALF[:3])
        machine.processes[0].respond(RESPONSE)
        # The slot is handed to the third image, whose task has not run since.
        await asyncio.sleep(0)
    results = await asyncio.gather(*decoding, return_exceptions=True)

    assert results[0] == DECODED
    assert isinstance(results[2], Draining)
    assert machine.images == HALF[:2]
    assert machine.running == [False]
