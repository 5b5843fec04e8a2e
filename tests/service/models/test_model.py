"""A model over fake processes: when they are started, and what becomes of it if one cannot be."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bundle.errors import IntegrityFailed, RuntimeUnavailable, WorkerDied
from service.errors import ServiceError
from service.models.instance import RESTART_DELAYS_S
from service.models.model import LOAD_DELAYS_S
from tests.service.models.fakes import IMAGE, SUCCESS, Machine, loading, predict, running, send
from tests.service.tasks import until

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[1, 2], ids=["1 stream", "2 streams"])
async def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    return Machine(request.param, tmp_path)


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
async def test_a_model_that_is_refused_at_a_restart_stays_refused(
    machine: Machine, busy: bool
) -> None:
    async with running(machine) as (model, task):
        # A third start would succeed.
        machine.start_errors = {2: RuntimeUnavailable("no memory")}
        if busy:
            machine.processes[0].may_end.clear()
            requests = await send(model, *[IMAGE] * 4)
            machine.processes[0].kill_now()
        else:
            machine.processes[0].kill_now()
            requests = await send(model, *[IMAGE] * 4)
        assert await asyncio.gather(*requests) == ["ModelRefused"] * 4
        await task

        assert (model.state, len(machine.processes)) == ("refused", 2)
        with pytest.raises(ServiceError, match="no memory"):
            model.target()


@pytest.mark.parametrize(
    "error",
    [RuntimeError("can't start new thread"), MemoryError(), OSError(24, "files")],
    ids=["threads", "memory", "files"],
)
async def test_a_process_that_cannot_be_started_now_is_started_later(
    machine: Machine, error: Exception
) -> None:
    async with running(machine) as (model, _):
        machine.start_errors = dict.fromkeys((2, 3), error)
        machine.processes[0].kill_now()

        assert await predict(model) == SUCCESS
        assert machine.running == [False, False, False, True]
        assert machine.delays_s == [LOAD_DELAYS_S[0], *RESTART_DELAYS_S[:3]]


async def test_a_defect_refuses_the_model_instead_of_letting_clients_wait(
    machine: Machine,
) -> None:
    async with running(machine) as (model, task):
        machine.start_errors = {2: AssertionError("unexpected")}
        machine.processes[0].kill_now()

        assert await predict(model) == "ModelRefused"
        assert (model.state, model.code) == ("refused", "internal_error")
        with pytest.raises(AssertionError, match="unexpected"):
            await task


async def test_a_bundle_that_is_replaced_while_it_is_loaded_is_loaded_again(
    machine: Machine,
) -> None:
    async with running(machine) as (model, _):
        machine.digests = {2: "another"}
        machine.processes[0].kill_now()

        assert await predict(model) == SUCCESS
        assert machine.running == [False, False, True]


async def test_images_admitted_for_a_bundle_are_not_classified_by_the_one_that_replaces_it(
    machine: Machine,
) -> None:
    async with running(machine) as (model, _):
        machine.processes[0].may_end.clear()
        in_flight = await send(model, IMAGE)
        machine.write_bundle(description="Another one.")
        machine.may_start.clear()
        machine.processes[0].kill_now()
        await until(lambda: model.state == "restarting")
        in_flight += await send(model, IMAGE)
        machine.may_start.set()

        assert await asyncio.gather(*in_flight) == ["ModelUnavailable"] * 2
        assert await predict(model) == SUCCESS
        assert model.target().manifest.description == "Another one."


async def test_a_target_changes_with_the_bundle_and_not_with_the_process(machine: Machine) -> None:
    async with running(machine) as (model, _):
        target = model.target()
        machine.processes[0].kill_now()
        assert await predict(model) == SUCCESS
        assert target.unchanged

        machine.write_bundle(description="Another one.")
        machine.processes[1].kill_now()
        assert await predict(model) in (SUCCESS, "ModelUnavailable")
        await until(lambda: model.target().manifest.description == "Another one.")
        assert not target.unchanged


async def test_batches_go_to_every_instance_and_to_one_that_is_idle_first(
    machine: Machine,
) -> None:
    async with running(machine, instances=2) as (model, _):
        machine.hold = True
        for process in machine.processes:
            process.may_end.clear()
        requests = []
        for _ in range(2 * machine.streams):
            requests += await send(model, IMAGE)
        assert machine.in_flight == [machine.streams] * 2
        assert len(model.queue) == 0
        for _ in range(2):
            requests += await send(model, IMAGE)
        assert machine.in_flight == [machine.streams + 1] * 2, "each has one ahead"
        assert len(model.queue) == 2

        for process in machine.processes:
            process.may_end.set()
        assert await asyncio.gather(*requests) == [SUCCESS] * len(requests)


async def test_an_instance_that_ends_does_not_disturb_the_other(machine: Machine) -> None:
    async with running(machine, instances=2) as (model, _):
        for process in machine.processes:
            process.may_end.clear()
        requests = []
        for _ in range(2 * machine.streams):
            requests += await send(model, IMAGE)
        first, second = machine.processes
        machine.may_start.clear()
        first.kill_now()
        await until(lambda: len(machine.processes) == 3)
        assert (model.state, second.in_flight) == ("ready", machine.streams)

        second.may_end.set()
        assert await asyncio.gather(*requests) == [SUCCESS] * len(requests), (
            "also those of the first"
        )
        machine.may_start.set()
        await until(lambda: machine.running == [False, True, True])


async def test_no_image_waits_for_an_instance_that_restarts_while_another_is_alive(
    machine: Machine,
) -> None:
    async with running(machine, instances=2) as (model, _):
        machine.may_start.clear()
        machine.processes[0].kill_now()
        # Some before the end of the process is noticed, and some after it.
        for _ in range(4):
            assert await predict(model) == SUCCESS
        await until(lambda: len(machine.processes) == 3)
        for _ in range(4):
            assert await predict(model) == SUCCESS
        assert machine.running == [False, True, False]
        assert model.state == "ready"


async def test_a_model_restarts_when_none_of_its_instances_is_alive(machine: Machine) -> None:
    async with running(machine, instances=2) as (model, _):
        machine.may_start.clear()
        for process in machine.processes:
            process.kill_now()
        states = [model.state]
        requests = await send(model, *[IMAGE] * 4)

        machine.may_start.set()
        assert await asyncio.gather(*requests) == [SUCCESS] * 4
        assert [*states, model.state] == ["restarting", "ready"]


async def test_all_instances_run_the_bundle_that_the_last_start_found(machine: Machine) -> None:
    async with running(machine, instances=2) as (model, _):
        machine.write_bundle(description="Another one.")
        machine.processes[0].kill_now()
        await until(lambda: machine.running == [False, False, True, True])

        assert model.target().manifest.description == "Another one."
        digests = {process.info["digest"] for process in machine.processes[2:]}
        assert digests == {model.target().manifest.digest}
        assert await asyncio.gather(*await send(model, *[IMAGE] * 4)) == [SUCCESS] * 4


async def test_a_model_that_is_refused_at_the_restart_of_one_instance_ends_the_others(
    machine: Machine,
) -> None:
    async with running(machine, instances=2) as (model, task):
        machine.processes[1].may_end.clear()
        machine.start_errors = {3: IntegrityFailed("another file")}
        machine.processes[0].kill_now()
        requests = await send(model, *[IMAGE] * 4)

        assert await asyncio.gather(*requests) == ["ModelRefused"] * 4
        await task
        assert model.state == "refused"
        assert machine.running == [False] * 3


async def test_an_instance_for_which_there_is_no_memory_does_not_end_the_others(
    machine: Machine,
) -> None:
    async with running(machine, instances=2) as (model, _):
        machine.start_errors = {3: RuntimeUnavailable("no memory")}
        machine.processes[0].kill_now()
        assert await asyncio.gather(*await send(model, *[IMAGE] * 4)) == [SUCCESS] * 4

        await until(lambda: machine.running == [False, True, False, True])
        assert model.state == "ready"


async def test_an_instance_that_cannot_be_loaded_is_loaded_later_than_the_others(
    machine: Machine,
) -> None:
    # Both attempts of one instance, before the other one is ready.
    machine.start_errors = dict.fromkeys((1, 3), WorkerDied("no memory"))
    machine.may_start.clear()
    async with loading(machine, instances=2) as (model, _):
        await until(lambda: len(machine.processes) == 4)
        states = [model.state]

        machine.may_start.set()
        await until(lambda: machine.running == [False, True, False, True])
        assert [*states, model.state] == ["loading", "ready"]


@pytest.mark.parametrize("instances", [1, 2])
async def test_a_model_none_of_whose_instances_can_be_loaded_is_refused(
    machine: Machine, instances: int
) -> None:
    machine.start_errors = dict.fromkeys(range(100), WorkerDied("no memory"))
    async with loading(machine, instances) as (model, task):
        await task
        assert (model.state, model.code) == ("refused", WorkerDied.code)
        assert len(machine.processes) >= instances * len(LOAD_DELAYS_S)
