"""The pool of decoders over fake processes: when they are started, and what if they can't be."""

from __future__ import annotations

import asyncio

import pytest

from bundle.sandbox import IN_FORCE
from bundle.worker.wire import WireClosed
from service.errors import DecoderUnavailable
from tests.service.decoding.fakes import (
    DECODED,
    FILE,
    FILES,
    GEOMETRY,
    RESPONSE,
    Machine,
    send,
    start_others,
    started,
)
from tests.service.tasks import settle, until

pytestmark = pytest.mark.anyio


async def test_a_decoder_that_is_killed_while_it_starts_is_started_again() -> None:
    machine = Machine()
    machine.response = RESPONSE
    machine.failures = [WireClosed("killed")]
    async with started(machine) as pool:
        assert await pool.decode(FILE, GEOMETRY) == DECODED
        assert machine.running == [False, True]


async def test_where_no_decoder_can_be_started_requests_fail_until_a_later_start_succeeds() -> None:
    machine = Machine()
    machine.response = RESPONSE
    machine.failures = [WireClosed("killed")] * 2
    machine.may_start.clear()
    async with started(machine) as pool:
        (early,) = await send(pool, FILE)
        machine.may_start.set()
        for decoding in (early, pool.decode(FILE, GEOMETRY)):
            with pytest.raises(DecoderUnavailable, match="the log says why"):
                await decoding
        assert machine.running == [False, False], "a request does not start one"

        machine.delay_over.set()
        await settle()
        assert machine.running == [False, False, True]
        assert await pool.decode(FILE, GEOMETRY) == DECODED


async def test_a_decoder_is_started_when_an_image_would_wait_and_stays() -> None:
    machine = Machine()
    async with started(machine, workers=3) as pool:
        for _ in range(3):
            decoding = await send(pool, FILE)
            assert machine.running == [True]
            machine.processes[0].respond(RESPONSE)
            await asyncio.gather(*decoding)

        decoding = await send(pool, *FILES[:2])
        assert machine.running == [True, True]
        machine.processes[1].end()
        await settle()
        assert machine.running == [True, False, True, True], "its image needs one at once"
        machine.respond_to_all()
        assert await asyncio.gather(*decoding) == [DECODED] * 2


async def test_images_go_to_the_decoders_that_run_while_another_cannot_be_started() -> None:
    machine = Machine()
    machine.response = RESPONSE
    # Two for one of them, one for the other.
    machine.failures = [WireClosed("killed")] * 3
    async with started(machine, workers=2) as pool:
        assert sorted(machine.running) == [False, False, False, True]
        for _ in range(3):
            decoding = [pool.decode(file, GEOMETRY) for file in FILES]
            assert await asyncio.gather(*decoding) == [DECODED] * len(FILES)


async def test_a_defect_in_the_start_of_one_decoder_does_not_keep_another_from_restarting() -> None:
    machine = Machine()
    async with started(machine, workers=2) as pool:
        await start_others(machine, pool, 2)
        machine.failures = [ValueError("unexpected")]
        for process in machine.processes:
            process.end()
        await until(lambda: len(machine.processes) == 4)
        assert sorted(machine.running) == [False, False, False, True]

        machine.delay_over.set()
        await until(lambda: sum(machine.running) == 2)


@pytest.mark.parametrize(
    ("isolation", "said"),
    [
        ({"files": IN_FORCE, "network": IN_FORCE}, "are confined: files, network"),
        (
            {"files": "not in force: no Landlock", "network": IN_FORCE},
            "are confined in part: files is not in force: no Landlock",
        ),
        ({}, "are not confined: SERVICE_SANDBOX is off"),
    ],
    ids=["wholly", "in part", "off"],
)
async def test_the_first_decoder_says_how_it_is_confined_and_the_others_do_not_repeat_it(
    caplog: pytest.LogCaptureFixture, isolation: dict[str, str], said: str
) -> None:
    machine = Machine()
    machine.isolation = isolation
    caplog.set_level("INFO", "service")

    async with started(machine, workers=2) as pool:
        await start_others(machine, pool, 2)

    assert [r.message for r in caplog.records] == [f"models and decoders {said}"]
