"""Batches in fake processes that end or fail: how many run at once, and which image is blamed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bundle.errors import RuntimeUnavailable
from service.models.model import LOAD_DELAYS_S
from tests.service.models.fakes import (
    BROKEN_FILE,
    DEADLY,
    DEADLY_FILE,
    DECODE_S,
    FILE,
    IMAGE,
    INFO,
    SUCCESS,
    Machine,
    predict,
    running,
    send,
)
from tests.service.tasks import settle, until

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[1, 2], ids=["1 stream", "2 streams"])
async def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    return Machine(request.param, tmp_path)


async def test_a_file_is_described_and_pixels_are_not(machine: Machine) -> None:
    async with running(machine) as (model, _):
        digest = model.target().manifest.digest
        with model.queue.admit(2):
            file, pixels = await asyncio.gather(
                model.queue.submit(FILE, digest), model.queue.submit(IMAGE, digest)
            )

    assert (file.info, file.decode_s) == (INFO, DECODE_S)
    assert pixels.info is None


async def test_a_file_that_cannot_be_decoded_is_an_error_of_its_own(machine: Machine) -> None:
    async with running(machine) as (model, _):
        requests = await send(model, FILE, BROKEN_FILE, FILE, IMAGE)

        outcomes = await asyncio.gather(*requests)
        assert outcomes == [SUCCESS, "UnreadableImage", SUCCESS, SUCCESS]
        assert machine.running == [True]


async def test_one_batch_more_than_streams_is_in_flight_and_the_others_wait(
    machine: Machine,
) -> None:
    async with running(machine) as (model, _):
        (process,) = machine.processes
        process.may_end.clear()
        requests = []
        for _ in range(machine.streams + 3):
            requests += await send(model, IMAGE)
        assert process.in_flight == machine.streams + 1
        assert len(model.queue) == 3, "the one ahead and two that are queued"

        process.end_batches()
        await settle()
        assert process.in_flight >= 1, "those that were queued"
        process.may_end.set()
        assert await asyncio.gather(*requests) == [SUCCESS] * len(requests)


async def test_a_defect_in_a_batch_fails_its_images_before_their_timeout(
    machine: Machine,
) -> None:
    async with running(machine) as (model, _):
        machine.infer_error = KeyError("unexpected")
        assert await predict(model) == "InternalError"

        machine.infer_error = None
        assert await predict(model) == SUCCESS


async def test_a_model_that_fails_on_a_batch_runs_its_images_one_by_one(
    machine: Machine,
) -> None:
    async with running(machine) as (model, _):
        machine.infer_error = RuntimeUnavailable("out of memory")
        assert await asyncio.gather(*await send(model, IMAGE, IMAGE)) == ["RuntimeUnavailable"] * 2

        assert len(machine.exclusive) == 2 + (machine.streams == 1)
        assert machine.running == [True]


async def test_a_batch_has_all_cores_unless_another_image_is_in_flight(machine: Machine) -> None:
    async with running(machine) as (model, _):
        assert await predict(model) == SUCCESS
        # One that is being decoded.
        with model.queue.admit(1):
            assert await predict(model) == SUCCESS
        assert await predict(model) == SUCCESS

        assert machine.exclusive == [True, False, True]


async def test_a_file_whose_process_ends_is_returned_and_pixels_run_again_one_by_one(
    machine: Machine,
) -> None:
    async with running(machine) as (model, _):
        machine.processes[0].may_end.clear()
        requests = await send(model, IMAGE, FILE, IMAGE, FILE)
        machine.processes[0].kill_now()

        outcomes = await asyncio.gather(*requests)
        assert outcomes == [SUCCESS, "ProcessLost", SUCCESS, "ProcessLost"]
        assert machine.running == [False, True]
        assert machine.batch_sizes[1] == [1, 1]


async def test_images_of_a_batch_run_again_in_their_order(machine: Machine) -> None:
    images = [IMAGE.copy() for _ in range(2 * machine.streams)]
    async with running(machine) as (model, _):
        machine.processes[0].may_end.clear()
        requests = await send(model, *images)
        batches = list(machine.processes[0].batches)
        assert machine.batch_sizes == [[2] * machine.streams]
        machine.processes[0].kill_now()
        assert await asyncio.gather(*requests) == [SUCCESS] * len(images)

        again = [id(image) for (image,) in machine.processes[1].batches]
        for first, second in batches:
            assert again.index(id(first)) < again.index(id(second))


async def test_a_deadly_file_is_returned_and_so_are_those_of_its_batch(machine: Machine) -> None:
    async with running(machine) as (model, _):
        machine.processes[0].may_end.clear()
        requests = await send(model, DEADLY_FILE, FILE)
        machine.processes[0].may_end.set()

        assert await asyncio.gather(*requests) == ["ProcessLost"] * 2
        assert await predict(model, FILE) == SUCCESS
        assert machine.running == [False, True]


async def test_an_image_that_ends_two_processes_is_blamed_and_those_of_its_batch_are_not(
    machine: Machine,
) -> None:
    async with running(machine) as (model, _):
        requests = await send(model, DEADLY, IMAGE)

        assert await asyncio.gather(*requests) == ["ModelUnavailable", SUCCESS]
        await until(lambda: machine.running == [False, False, True])


@pytest.mark.parametrize("image", [DEADLY, DEADLY_FILE], ids=["pixels", "file"])
async def test_an_image_that_is_suspect_already_is_blamed_at_once(
    machine: Machine, image: bytes
) -> None:
    async with running(machine) as (model, _):
        assert await predict(model, image, suspect=True) == "ModelUnavailable"
        await until(lambda: machine.running == [False, True])


async def test_an_image_that_is_retried_is_not_blamed_for_those_that_came_later(
    machine: Machine,
) -> None:
    async with running(machine) as (model, _):
        machine.processes[0].may_end.clear()
        machine.may_report.clear()
        (innocent,) = await send(model, IMAGE)
        machine.hold = True
        machine.processes[0].kill_now()
        deadly = await send(model, DEADLY, DEADLY)
        assert machine.delays_s == [LOAD_DELAYS_S[0]], "none is started before the batch has failed"
        machine.may_report.set()
        await until(lambda: len(machine.exclusive) > 1)
        await settle()
        machine.hold = False
        machine.processes[1].may_end.set()

        assert await innocent == SUCCESS
        assert await asyncio.gather(*deadly) == ["ModelUnavailable"] * 2


async def test_a_suspect_runs_after_those_before_it_and_before_those_behind_it(
    machine: Machine,
) -> None:
    async with running(machine) as (model, _):
        (process,) = machine.processes
        process.may_end.clear()
        requests = await send(model, IMAGE)
        suspect = IMAGE.copy()
        requests += await send(model, suspect, suspect=True)
        requests += await send(model, IMAGE)
        assert machine.batch_sizes == [[1]], "the suspect waits until nothing else runs"

        process.end_batches()
        await settle()
        assert (process.in_flight, len(process.batches)) == (1, 2)
        assert process.batches[1][0] is suspect

        process.end_batches()
        await settle()
        assert (process.in_flight, len(process.batches)) == (1, 3)

        process.end_batches()
        assert await asyncio.gather(*requests) == [SUCCESS] * 3
