"""Images with which the process of a model ends, and files that can't be read."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from bundle.errors import RuntimeUnavailable, WorkerDied
from bundle.format.manifest import read_manifest
from bundle.runtimes import Logits
from deploy.ray.score.errors import FileUnreadable, Stopped
from deploy.ray.score.progress import LINE_S, Bar
from deploy.ray.score.scoring import Failure, Scorer
from service.settings import Settings
from tests.service.models.fakes import BROKEN_FILE, DEADLY_FILE, FILE, Machine

FILES = {"good": FILE, "deadly": DEADLY_FILE, "broken": BROKEN_FILE}


def read(path: str, limit: int) -> bytes:
    if path == "gone":
        raise FileUnreadable("The file can't be read: No such file or directory")
    return FILES[path][:limit]


def outcomes(machine: Machine, paths: Sequence[str], digest: str = "") -> list[Logits | Failure]:
    async def score() -> list[Logits | Failure]:
        scorer = Scorer(
            lambda: machine.new_process(machine.bundle.path, Settings(), 0),
            digest or read_manifest(machine.bundle.path).digest,
            read,
        )
        try:
            return await scorer.score(paths)
        finally:
            await scorer.close()

    return asyncio.run(score())


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(2, tmp_path)


def test_an_image_that_ends_the_process_gets_an_error_and_the_others_their_answers(
    machine: Machine,
) -> None:
    paths = ["good"] * 50 + ["deadly"] + ["good"] * 50 + ["broken", "gone", "deadly"]

    found = outcomes(machine, paths)

    codes = [each.code if isinstance(each, Failure) else "" for each in found]
    assert codes == [
        *([""] * 50),
        "worker_died",
        *([""] * 50),
        *("unreadable_image", "unreadable_file", "worker_died"),
    ]
    # Those that ended one run alone, and only the deadly ones end it twice more.
    deaths = sum(any(map(is_deadly, batch)) for p in machine.processes for batch in p.batches)
    assert deaths <= 2 + 2 * 2
    sizes = [len(batch) for process in machine.processes for batch in process.batches]
    assert max(sizes) == 16


def is_deadly(image: object) -> bool:
    return image == DEADLY_FILE


def test_a_model_that_fails_on_a_batch_is_asked_for_each_image(machine: Machine) -> None:
    machine.infer_error = RuntimeUnavailable("out of memory")

    (found,) = outcomes(machine, ["good"])

    assert isinstance(found, Failure)
    assert found.code == "runtime_unavailable"
    assert [len(p.batches) for p in machine.processes] == [3]


def test_a_process_that_does_not_start_is_no_fault_of_an_image(machine: Machine) -> None:
    machine.start_errors[2] = WorkerDied("no memory")

    with pytest.raises(WorkerDied, match="no memory"):
        outcomes(machine, ["deadly"])


def test_another_bundle_on_a_machine_stops_the_run(machine: Machine) -> None:
    with pytest.raises(Stopped, match="The bundle is not the one that was planned with"):
        outcomes(machine, ["good"], "0" * 64)


def test_a_store_that_fails_stops_the_run_in_place_of_errors_for_images(machine: Machine) -> None:
    def fail(path: str, limit: int) -> bytes:  # noqa: ARG001
        raise Stopped("the store is gone")

    async def score() -> None:
        scorer = Scorer(
            lambda: machine.new_process(machine.bundle.path, Settings(), 0),
            read_manifest(machine.bundle.path).digest,
            fail,
        )
        await scorer.score(["good"] * 100)

    with pytest.raises(Stopped, match="the store is gone"):
        asyncio.run(score())


def test_without_a_terminal_progress_is_a_line_now_and_then() -> None:
    times = iter(np.arange(0, 100, LINE_S / 2))
    said = io.StringIO()

    with Bar(Console(file=said), 10_000, 2_000, lambda: float(next(times))) as bar:
        for _ in range(5):
            bar.advance(1_000)

    assert said.getvalue().splitlines() == [
        "4,000 of 10,000 images, 200 images/s, ETA 0:00:30",
        "6,000 of 10,000 images, 200 images/s, ETA 0:00:20",
    ]
