"""A model whose process ends or fails, with a process that only pretends: what is started, and who is blamed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bundle.errors import RuntimeUnavailable, WorkerDied
from service.models import model as models
from service.models.model import ServedModel

PICTURE = np.zeros((2, 2, 3), np.uint8)
DEADLY = PICTURE + 1


class Pretended:
    """A process that answers after a moment, and ends on a deadly picture."""

    starts: list[Pretended]
    refusals: dict[int, Exception]  # of the starts, by their number
    streams: int
    beside: list[bool]  # of the batches
    replaced: dict[
        int, str
    ]  # the digests of other bundles, by the number of the start that finds them

    def __init__(self, *_: Any) -> None:
        self.running = False

    async def start(self, _: float) -> dict[str, Any]:
        Pretended.starts.append(self)
        await asyncio.sleep(0.01)
        if error := Pretended.refusals.get(len(Pretended.starts)):
            raise error
        self.running = True
        digest = Pretended.replaced.get(len(Pretended.starts), "one")
        found = {
            "batch_size": None,
            "artifact_id": "source",
            "device": "cpu",
            "choice": "the only one",
        }
        return {**found, "digest": digest, "streams": Pretended.streams}

    async def infer(self, images: Sequence[np.ndarray], _: float, *, beside: bool) -> np.ndarray:
        Pretended.beside.append(beside)
        for _ in range(10):
            if self.running:
                await asyncio.sleep(0.01)
        self.running = self.running and not any(image.any() for image in images)
        if not self.running:
            await asyncio.sleep(0.02)  # to see how it ended
            raise WorkerDied("ended")
        return np.zeros((len(images), 3), np.float32)

    async def kill(self) -> str:
        self.running = False
        return ""


async def ask(model: ServedModel, picture: np.ndarray) -> str:
    with model.admit(1):
        try:
            await model.predict([picture], model.check_serving())
        except Exception as exc:  # noqa: BLE001 - whichever it is
            return type(exc).__name__
    return "answered"


@pytest.fixture(params=[1, 2])
def run(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Callable[[Callable[[ServedModel], Awaitable[None]]], None]:
    """Runs a test with a model in batches of 2 that is ready; it works on one of them at a time, or on two."""
    manifest = SimpleNamespace(
        name="some", version=1, framework=SimpleNamespace(name="pytorch"), digest="one"
    )
    settings: Any = SimpleNamespace(
        queue_size=64,
        max_batch=2 * request.param,
        inference_timeout_s=3,
        runtime="auto",
        device="cpu",
        runtime_threads=1,
        compiled_dir=None,
        openmp_wait="passive",
        load_timeout_s=5,
    )
    monkeypatch.setattr(models, "ModelProcess", Pretended)
    monkeypatch.setattr(models, "read_manifest", lambda _: manifest)
    monkeypatch.setattr(Pretended, "streams", request.param, raising=False)
    monkeypatch.setattr(Pretended, "beside", [], raising=False)
    monkeypatch.setattr(Pretended, "starts", [], raising=False)
    monkeypatch.setattr(Pretended, "refusals", {}, raising=False)
    monkeypatch.setattr(Pretended, "replaced", {}, raising=False)

    async def ready(test: Callable[[ServedModel], Awaitable[None]]) -> None:
        model = ServedModel("some", 1, Path("some/1"), settings)
        serving = asyncio.create_task(model.run())
        while model.state != "ready":  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
        await asyncio.wait_for(test(model), 20)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)

    return lambda test: asyncio.run(ready(test))


@pytest.mark.parametrize("idle", [True, False])
def test_a_model_that_is_refused_at_a_restart_stays_refused(
    run: Callable[..., None], idle: bool
) -> None:
    async def test(model: ServedModel) -> None:
        Pretended.refusals = {2: RuntimeUnavailable("no memory")}  # a third start would succeed
        if idle:
            Pretended.starts[0].running = False
        asked = [asyncio.create_task(ask(model, PICTURE)) for _ in range(4)]
        await asyncio.sleep(0.05)
        Pretended.starts[0].running = False
        assert await asyncio.gather(*asked) == ["ModelRefused"] * 4
        await asyncio.sleep(2 * models.WATCH_S)
        assert (model.state, len(Pretended.starts)) == ("refused", 2)
        assert await ask(model, PICTURE) == "ModelRefused"

    run(test)


@pytest.mark.parametrize(
    "short", [RuntimeError("can't start new thread"), MemoryError(), OSError(24, "files")]
)
def test_a_model_that_can_not_be_started_now_is_started_later(
    run: Callable[..., None], short: Exception
) -> None:
    async def test(model: ServedModel) -> None:
        Pretended.refusals = dict.fromkeys((2, 3), short)
        Pretended.starts[0].running = False
        assert await ask(model, PICTURE) == "answered"
        assert [process.running for process in Pretended.starts] == [False, False, False, True]

    run(test)


def test_a_defect_refuses_the_model_instead_of_letting_clients_wait(
    run: Callable[..., None],
) -> None:
    async def test(model: ServedModel) -> None:
        Pretended.refusals = {2: AssertionError("what nobody has thought of")}
        Pretended.starts[0].running = False
        assert await ask(model, PICTURE) == "ModelRefused"
        assert (model.state, model.code) == ("refused", "internal_error")

    run(test)


def test_images_of_a_batch_that_meets_a_defect_do_not_wait_for_their_time_to_pass(
    run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(model: ServedModel) -> None:
        async def fail(*_: Any, **__: Any) -> None:
            raise KeyError("what nobody has thought of")

        monkeypatch.setattr(Pretended, "infer", fail)
        async with asyncio.timeout(1):
            assert await ask(model, PICTURE) == "InternalError"

    run(test)


def test_a_bundle_that_is_replaced_between_its_record_and_its_files_is_read_again(
    run: Callable[..., None],
) -> None:
    async def test(model: ServedModel) -> None:
        Pretended.replaced = {2: "another"}
        Pretended.starts[0].running = False
        assert await ask(model, PICTURE) == "answered"
        assert [process.running for process in Pretended.starts] == [False, False, True]

    run(test)


def test_an_image_that_is_tried_again_is_not_blamed_for_those_that_came_later(
    run: Callable[..., None],
) -> None:
    async def test(model: ServedModel) -> None:
        innocent = asyncio.create_task(ask(model, PICTURE))
        await asyncio.sleep(0.05)
        Pretended.starts[0].running = False
        deadly = [asyncio.create_task(ask(model, DEADLY)) for _ in range(2)]
        assert await innocent == "answered"
        assert await asyncio.gather(*deadly) == ["ModelUnavailable"] * 2

    run(test)


def test_an_image_has_the_whole_machine_unless_there_is_another_wherever_on_its_way(
    run: Callable[..., None],
) -> None:
    async def test(model: ServedModel) -> None:
        assert await ask(model, PICTURE) == "answered"
        with model.admit(1):  # one that is being decoded
            assert await ask(model, PICTURE) == "answered"
        assert await ask(model, PICTURE) == "answered"

        assert Pretended.beside == [False, True, False]

    run(test)
