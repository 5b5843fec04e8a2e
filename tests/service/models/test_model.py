"""A model over fake processes that end or fail: which are started, and which image is blamed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bundle.errors import RuntimeUnavailable
from bundle.format.manifest import MANIFEST_FILE
from bundle.format.repository import BundleRef
from service.errors import ServiceError
from service.models.batcher import Pixels
from service.models.model import LOAD_DELAYS_S, RESTART_DELAYS_S, ServedModel
from service.settings import Settings
from tests.bundle.format.test_manifest import record
from tests.service.models.fakes import (
    DEADLY,
    IMAGE,
    SUCCESS,
    Machine,
)
from tests.service.tasks import settle, until

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[1, 2], ids=["1 stream", "2 streams"])
async def machine(request: pytest.FixtureRequest) -> Machine:
    return Machine(request.param)


@pytest.fixture
def bundle(tmp_path: Path) -> BundleRef:
    path = tmp_path / "tiny" / "1"
    path.mkdir(parents=True)
    write(path)
    return BundleRef("tiny", 1, path)


def write(path: Path, **changes: Any) -> None:
    (path / MANIFEST_FILE).write_text(json.dumps(record() | changes))


@asynccontextmanager
async def running(
    machine: Machine, bundle: BundleRef
) -> AsyncIterator[tuple[ServedModel, asyncio.Task[None]]]:
    """A model that is ready, in batches of 2 on each stream, and the task that runs it."""
    settings = Settings(max_batch=2 * machine.streams)
    model = ServedModel(bundle, settings, machine.new_process, machine.sleep)
    task = asyncio.create_task(model.run())
    await until(lambda: model.state == "ready")
    yield model, task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def predict(model: ServedModel, image: Pixels = IMAGE) -> str:
    """Classify one image as a request does; returns the name of the error, if there is one."""
    with model.admit(1):
        try:
            await model.predict([image], model.check_serving())
        except Exception as exc:  # noqa: BLE001 - the test judges it
            return type(exc).__name__
    return SUCCESS


async def send(model: ServedModel, *images: Pixels) -> list[asyncio.Task[str]]:
    tasks = [asyncio.create_task(predict(model, image)) for image in images]
    await settle()
    return tasks


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
async def test_a_model_that_is_refused_at_a_restart_stays_refused(
    machine: Machine, bundle: BundleRef, busy: bool
) -> None:
    async with running(machine, bundle) as (model, task):
        # A third start would succeed.
        machine.start_errors = {2: RuntimeUnavailable("no memory")}
        if busy:
            machine.processes[0].may_end.clear()
            requests = await send(model, *[IMAGE] * 4)
            machine.processes[0].end()
        else:
            machine.processes[0].end()
            requests = await send(model, *[IMAGE] * 4)
        assert await asyncio.gather(*requests) == ["ModelRefused"] * 4
        await task

        assert (model.state, len(machine.processes)) == ("refused", 2)
        with pytest.raises(ServiceError, match="no memory"):
            model.check_serving()


@pytest.mark.parametrize(
    "error",
    [RuntimeError("can't start new thread"), MemoryError(), OSError(24, "files")],
    ids=["threads", "memory", "files"],
)
async def test_a_process_that_cannot_be_started_now_is_started_later(
    machine: Machine, bundle: BundleRef, error: Exception
) -> None:
    async with running(machine, bundle) as (model, _):
        machine.start_errors = dict.fromkeys((2, 3), error)
        machine.processes[0].end()

        assert await predict(model) == SUCCESS
        assert machine.running == [False, False, False, True]
        assert machine.delays_s == [LOAD_DELAYS_S[0], *RESTART_DELAYS_S[:3]]


async def test_a_defect_refuses_the_model_instead_of_letting_clients_wait(
    machine: Machine, bundle: BundleRef
) -> None:
    async with running(machine, bundle) as (model, task):
        machine.start_errors = {2: AssertionError("unexpected")}
        machine.processes[0].end()

        assert await predict(model) == "ModelRefused"
        assert (model.state, model.code) == ("refused", "internal_error")
        with pytest.raises(AssertionError, match="unexpected"):
            await task


async def test_a_defect_in_a_batch_fails_its_images_before_their_timeout(
    machine: Machine, bundle: BundleRef
) -> None:
    async with running(machine, bundle) as (model, _):
        machine.infer_error = KeyError("unexpected")
        assert await predict(model) == "InternalError"

        machine.infer_error = None
        assert await predict(model) == SUCCESS


async def test_a_model_that_fails_on_a_batch_runs_its_images_one_by_one(
    machine: Machine, bundle: BundleRef
) -> None:
    async with running(machine, bundle) as (model, _):
        machine.infer_error = RuntimeUnavailable("out of memory")
        assert await asyncio.gather(*await send(model, IMAGE, IMAGE)) == ["RuntimeUnavailable"] * 2

        assert len(machine.exclusive) == 2 + (machine.streams == 1)
        assert machine.running == [True]


async def test_a_bundle_that_is_replaced_while_it_is_loaded_is_loaded_again(
    machine: Machine, bundle: BundleRef
) -> None:
    async with running(machine, bundle) as (model, _):
        machine.digests = {2: "another"}
        machine.processes[0].end()

        assert await predict(model) == SUCCESS
        assert machine.running == [False, False, True]


async def test_images_admitted_for_a_bundle_are_not_classified_by_the_one_that_replaces_it(
    machine: Machine, bundle: BundleRef
) -> None:
    async with running(machine, bundle) as (model, _):
        machine.processes[0].may_end.clear()
        in_flight = await send(model, IMAGE)
        write(bundle.path, description="Another one.")
        machine.may_start.clear()
        machine.processes[0].end()
        await until(lambda: model.state == "restarting")
        in_flight += await send(model, IMAGE)
        machine.may_start.set()

        assert await asyncio.gather(*in_flight) == ["ModelUnavailable"] * 2
        assert await predict(model) == SUCCESS
        assert model.check_serving().description == "Another one."


async def test_an_image_that_is_retried_is_not_blamed_for_those_that_came_later(
    machine: Machine, bundle: BundleRef
) -> None:
    async with running(machine, bundle) as (model, _):
        machine.processes[0].may_end.clear()
        machine.may_report.clear()
        (innocent,) = await send(model, IMAGE)
        machine.hold = True
        machine.processes[0].end()
        deadly = await send(model, DEADLY, DEADLY)
        machine.may_report.set()
        await until(lambda: len(machine.exclusive) > 1)
        await settle()
        machine.hold = False
        machine.processes[1].may_end.set()

        assert await innocent == SUCCESS
        assert await asyncio.gather(*deadly) == ["ModelUnavailable"] * 2


async def test_a_batch_has_all_cores_unless_another_image_is_in_flight(
    machine: Machine, bundle: BundleRef
) -> None:
    async with running(machine, bundle) as (model, _):
        assert await predict(model) == SUCCESS
        # One that is being decoded.
        with model.admit(1):
            assert await predict(model) == SUCCESS
        assert await predict(model) == SUCCESS

        assert machine.exclusive == [True, False, True]
