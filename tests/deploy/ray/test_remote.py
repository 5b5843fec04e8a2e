"""A model in the replicas of a deployment, which a fake handle stands for."""

from __future__ import annotations

import asyncio
import pickle
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import pytest
from ray.exceptions import ActorUnavailableError

from bundle.errors import BUNDLE_ERRORS, IMAGE_ERRORS, BundleError, ImageError, WorkerDied
from bundle.worker.responses import ClassifiedBatch
from deploy.ray.app import own_models
from deploy.ray.host import Failed
from deploy.ray.options import Args, Identity, Scale
from deploy.ray.remote import RemoteProcess
from service.settings import SettingsError

IDENTITY = Identity("tiny", 1, "abc", "auto", "auto", 2)
INFO = {"digest": "abc", "streams": 1}


class Handle:
    """A deployment that loads the model, and answers batches with `answer`."""

    def __init__(self, answer: Callable[[], Awaitable[Any]], method: str = "") -> None:
        self._answer, self._method = answer, method

    deployment_name = "Others"

    def options(self, method_name: str = "", **_: str) -> Self:
        return type(self)(self._answer, method_name)

    async def remote(self, *_: object) -> Any:
        return INFO if self._method == "load" else await self._answer()


def run(answer: Callable[[], Awaitable[Any]], timeout_s: float = 60) -> tuple[Any, RemoteProcess]:
    """What comes of a batch, a result or an error, and the process that has run it."""
    process = RemoteProcess(Handle(answer), lambda: IDENTITY, asyncio.Semaphore(1))

    async def start_and_classify() -> Any:
        await process.start(60)
        try:
            return await process.classify([b"image"], timeout_s, exclusive=True)
        except BundleError as exc:
            return exc

    return asyncio.run(start_and_classify()), process


def test_a_batch_is_answered_by_the_replica() -> None:
    batch = ClassifiedBatch([], 0.1, 0.2)

    async def answer() -> ClassifiedBatch:
        return batch

    found, process = run(answer)

    assert found is batch
    assert process.running


def test_a_replica_that_is_lost_is_a_process_that_died() -> None:
    async def answer() -> None:
        raise ActorUnavailableError("gone", None)

    error, process = run(answer)

    assert type(error) is WorkerDied
    assert (process.running, process.reason) == (False, "killed")


def test_a_replica_that_does_not_answer_is_a_process_that_was_too_slow() -> None:
    error, process = run(asyncio.Event().wait, timeout_s=0.01)

    assert type(error) is WorkerDied
    assert (process.running, process.reason) == (False, "timeout")


@pytest.mark.parametrize("kind", BUNDLE_ERRORS.values(), ids=list(BUNDLE_ERRORS))
def test_an_error_of_a_bundle_keeps_its_type_and_its_text(kind: type[BundleError]) -> None:
    sent = pickle.dumps(Failed(kind("what happened"), "crashed"))

    async def answer() -> Any:
        return pickle.loads(sent)  # noqa: S301 - as Serve does

    error, process = run(answer)

    assert (type(error), str(error)) == (kind, "what happened")
    # After any other error the process goes on.
    assert process.running == (kind is not WorkerDied)
    assert process.reason == ("crashed" if kind is WorkerDied else None)


@pytest.mark.parametrize("kind", IMAGE_ERRORS.values(), ids=list(IMAGE_ERRORS))
def test_an_error_of_an_image_keeps_its_type_and_its_text(kind: type[ImageError]) -> None:
    batch = ClassifiedBatch([kind("what happened")], 0, 0)

    (error,) = pickle.loads(pickle.dumps(batch)).images  # noqa: S301 - as Serve does

    assert (type(error), str(error)) == (kind, "what happened")


def test_models_that_lie_elsewhere_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_MODELS_DIR", "s3://bucket/models")

    with pytest.raises(SettingsError, match="a folder that all nodes see"):
        Args().settings()

    assert Args(models_dir=Path("models")).settings().models_dir == Path("models")


def test_a_model_that_waits_for_a_replica_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    class Waiting(Handle):
        async def remote(self, *_: object) -> Any:
            while not caplog.records:  # noqa: ASYNC110 - the log sets no event
                await asyncio.sleep(0)
            return INFO

    handle = Waiting(asyncio.Future)
    process = RemoteProcess(handle, lambda: IDENTITY, asyncio.Semaphore(1), waiting_s=0)

    asyncio.run(process.start(60))

    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "is not loaded yet by a replica of Others" in caplog.text


def test_models_whose_manifest_cannot_be_read_get_no_deployment(
    tmp_path: Path, quick_root: Path
) -> None:
    root = shutil.copytree(quick_root, tmp_path / "models")
    shutil.copytree(root / "tiny-torch", root / "junk")
    (root / "junk" / "1" / "manifest.json").write_text("{")

    assert own_models(Args(models_dir=root)) == {"tiny-torch"}
    assert own_models(Args(models_dir=root, models={"junk": Scale()})) == {"junk"}
