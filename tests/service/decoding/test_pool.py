"""The pool of decoders over fake processes: which image goes to which, and what if one ends."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from bundle.errors import ImageTooLarge, UnreadableImage
from bundle.worker.wire import Frame
from service.access.key import CURRENT
from service.decoding.pool import MAX_ATTEMPTS
from service.errors import Draining, QueueFull
from tests.service.access.keyring import client, sha256
from tests.service.decoding.fakes import (
    DECODED,
    FILE,
    FILES,
    GEOMETRY,
    IMAGE,
    PIXELS,
    RESPONSE,
    Machine,
    send,
    start_others,
    started,
)
from tests.service.tasks import settle

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("may_start", [False, True], ids=["starting", "decoding"])
async def test_nothing_is_started_after_the_stop(may_start: bool) -> None:
    before = asyncio.all_tasks()
    machine = Machine()
    if not may_start:
        machine.may_start.clear()
    async with started(machine) as pool:
        decoding = await send(pool, *FILES[:2])
    results = await asyncio.gather(*decoding, return_exceptions=True)
    await settle()

    assert [type(result) for result in results] == [Draining, Draining]
    assert machine.files == [FILES[:1] if may_start else []]
    assert machine.running == [False]
    assert asyncio.all_tasks() == before
    with pytest.raises(Draining):
        await pool.decode(FILE, GEOMETRY)


async def test_clients_with_api_keys_take_turns() -> None:
    machine = Machine()
    async with started(machine, api_keys=f"shop:{sha256('key')}") as pool:
        decoding = []
        for name, files in (("busy", FILES[:4]), ("other", FILES[4:5])):
            token = CURRENT.set(client(name))
            decoding += await send(pool, *files)
            CURRENT.reset(token)
        machine.respond_to_all()
        await asyncio.gather(*decoding)

    (files,) = machine.files
    assert files.index(FILES[4]) <= 2, "the first one of the other client ran already"


async def test_a_decoder_that_comes_free_as_the_pool_stops_takes_no_image() -> None:
    machine = Machine()
    async with started(machine) as pool:
        decoding = await send(pool, *FILES[:2])
        machine.respond_to_all()
    results = await asyncio.gather(*decoding, return_exceptions=True)

    assert isinstance(results[1], Draining)
    assert machine.files == [FILES[:1]]
    assert machine.running == [False]


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
            await pool.decode(FILE, GEOMETRY)
        await settle()

        assert machine.files == [[FILE]] * MAX_ATTEMPTS + [[]]
        assert machine.running == [False] * MAX_ATTEMPTS + [True]


@pytest.mark.parametrize("file", [b"<svg/>", b"", b"\x89PNG"], ids=["svg", "empty", "short"])
async def test_a_process_that_draws_no_png_is_replaced(file: bytes) -> None:
    machine = Machine()
    machine.response = ({}, [np.frombuffer(file, np.uint8)])
    async with started(machine) as pool:
        with pytest.raises(UnreadableImage):
            await pool.draw(FILE, GEOMETRY, np.zeros((2, 2), np.float32))
        await settle()

        assert machine.running == [False] * MAX_ATTEMPTS + [True]


async def test_valid_frames_are_the_image_or_the_error() -> None:
    machine = Machine()
    machine.response = RESPONSE
    async with started(machine) as pool:
        assert await pool.decode(FILE, GEOMETRY) == DECODED
        machine.response = ({"error": "image_too_large", "detail": "what"}, [])
        with pytest.raises(ImageTooLarge, match="what"):
            await pool.decode(FILE, GEOMETRY)

        assert machine.running == [True]


async def test_each_decoder_has_one_image_and_then_the_one_that_has_waited_longest() -> None:
    machine = Machine()
    async with started(machine, workers=2) as pool:
        decoding = await send(pool, *FILES[:3])
        assert sorted(machine.files) == [FILES[:1], FILES[1:2]]

        # One more comes as a decoder comes free.
        decoding.append(asyncio.create_task(pool.decode(FILES[3], GEOMETRY)))
        machine.processes[machine.files.index(FILES[:1])].respond(RESPONSE)
        await settle()
        assert sorted(machine.files) == [[FILES[0], FILES[2]], FILES[1:2]]

        machine.respond_to_all()
        assert await asyncio.gather(*decoding) == [DECODED] * 4


async def test_a_client_that_leaves_while_its_image_waits_costs_no_decode_and_no_place() -> None:
    machine = Machine()
    async with started(machine, queue_size=1) as pool:
        decoding = await send(pool, FILES[0]) + await send(pool, FILES[1])
        decoding[1].cancel()
        decoding[1] = (await send(pool, FILES[2]))[0]

        machine.respond_to_all()
        assert await asyncio.gather(*decoding) == [DECODED, DECODED]
        assert machine.files == [[FILES[0], FILES[2]]]


async def test_a_client_that_leaves_as_a_decoder_comes_free_costs_no_decode() -> None:
    machine = Machine()
    async with started(machine) as pool:
        decoding = await send(pool, *FILES[:3])
        # The decoder takes its next image before the task of this client runs again.
        machine.respond_to_all()
        decoding[1].cancel()
        await asyncio.gather(*decoding, return_exceptions=True)

        assert machine.files == [[FILES[0], FILES[2]]]


async def test_a_client_that_leaves_while_its_image_is_decoded_does_not_cost_the_decoder() -> None:
    machine = Machine()
    async with started(machine) as pool:
        decoding = await send(pool, *FILES[:2])
        decoding[0].cancel()
        await settle()
        assert machine.files == [FILES[:1]], "it is still being decoded"

        machine.respond_to_all()
        assert await decoding[1] == DECODED
        assert machine.files == [FILES[:2]]
        assert machine.running == [True]


async def test_an_image_whose_client_has_left_is_not_decoded_again() -> None:
    machine = Machine()
    async with started(machine) as pool:
        (decoding,) = await send(pool, FILE)
        decoding.cancel()
        machine.processes[0].end()
        await settle()

        assert machine.files == [[FILE], []]
        assert machine.running == [False, True]


async def test_an_image_that_waits_for_too_long_is_refused_and_one_that_is_decoded_is_not() -> None:
    machine = Machine()
    async with started(machine, inference_timeout_s=0.01) as pool:
        decoding = await send(pool, *FILES[:2])
        with pytest.raises(QueueFull, match=r"No decoder was free within 0\.01 s"):
            await decoding[1]

        machine.respond_to_all()
        assert await decoding[0] == DECODED
        assert machine.files == [FILES[:1]]


async def test_an_image_whose_decoder_ends_goes_to_one_that_runs_not_to_one_that_starts() -> None:
    machine = Machine()
    async with started(machine, workers=2) as pool:
        await start_others(machine, pool, 2)
        (decoding,) = await send(pool, FILE)
        machine.may_start.clear()
        machine.processes[machine.files.index([FILE])].end()
        await settle()
        assert sorted(machine.files) == [[], [FILE], [FILE]], "the third one is being started"

        machine.respond_to_all()
        assert await decoding == DECODED


async def test_an_image_whose_decoder_ends_is_decoded_before_those_that_came_later() -> None:
    machine = Machine()
    async with started(machine) as pool:
        decoding = await send(pool, *FILES[:3])
        machine.processes[0].end()
        decoding += await send(pool, *FILES[3:])
        assert machine.files == [FILES[:1], FILES[:1]]

        machine.respond_to_all()
        assert await asyncio.gather(*decoding) == [DECODED] * len(FILES)
        assert machine.files == [FILES[:1], FILES]


async def test_an_image_that_ends_decoder_after_decoder_is_unreadable_the_next_is_not() -> None:
    machine = Machine()
    async with started(machine) as pool:
        decoding = await send(pool, *FILES[:2])
        for number in range(MAX_ATTEMPTS):
            machine.processes[number].end()
            await settle()

        with pytest.raises(UnreadableImage, match=f"ended on this image, {MAX_ATTEMPTS} times"):
            await decoding[0]
        assert machine.files == [[FILES[0]]] * MAX_ATTEMPTS + [[FILES[1]]]
        machine.respond_to_all()
        assert await decoding[1] == DECODED


async def test_decoders_that_have_ended_without_an_image_do_not_count_as_attempts() -> None:
    machine = Machine()
    async with started(machine, workers=MAX_ATTEMPTS) as pool:
        await start_others(machine, pool, MAX_ATTEMPTS)
        machine.response = RESPONSE
        machine.may_start.clear()
        for process in machine.processes:
            process.end()
        (decoding,) = await send(pool, FILE)

        machine.may_start.set()
        assert await decoding == DECODED
