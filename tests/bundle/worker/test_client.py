"""A worker process on the event loop, as the pool of decoders starts it."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from bundle.worker.client import FramedProcess
from bundle.worker.process import environment
from bundle.worker.wire import WireClosed
from service.settings import Settings


def open_files() -> set[str]:
    found = set()
    for handle in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one of the listing itself
            found.add(str(handle.readlink()))
    return found


async def only(files: set[str]) -> None:
    """Wait until no other files are open."""
    deadline = time.monotonic() + 30
    while left := open_files() - files:
        assert time.monotonic() < deadline, left
        await asyncio.sleep(0.01)


def decoding() -> FramedProcess:
    limits = dataclasses.asdict(Settings().image_limits)
    return FramedProcess(
        "service.decoding", {"limits": limits, "memory_bytes": 2**30}, environment("cpu", 1)
    )


@pytest.mark.parametrize(
    "short", [MemoryError(), RuntimeError("no more"), OSError(24, "Too many open files")]
)
@pytest.mark.parametrize(
    "where", ["subprocess.Popen", "asyncio.SelectorEventLoop.connect_read_pipe"]
)
def test_a_process_that_can_not_be_started_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch, where: str, short: Exception
) -> None:
    async def test() -> None:
        before, processes = open_files(), psutil.Process().children()

        def fail(*_: object, **__: object) -> None:
            raise short

        monkeypatch.setattr(where, fail)
        with pytest.raises(WireClosed, match=str(short.args[-1]) if short.args else "MemoryError"):
            await decoding().start(60)
        await only(before)
        assert psutil.Process().children() == processes

    asyncio.run(test())


def test_no_thread_is_needed_and_the_last_output_is_known() -> None:
    async def test() -> None:
        process = FramedProcess("bundle.worker", {}, environment("cpu", 1))
        threads = threading.active_count()
        with pytest.raises(
            WireClosed, match=r"(?s)ended.*Exit: .*Its last lines.*KeyError: 'threads'"
        ):
            await process.start(60)
        assert threading.active_count() == threads
        assert await process.kill() == await process.kill(), "it is idempotent"

    asyncio.run(test())


def test_a_kill_that_is_cancelled_releases_the_file_descriptors() -> None:
    async def test() -> None:
        process = decoding()
        before = open_files()
        await process.start(60)
        assert len(open_files() - before) > 1

        killing = asyncio.create_task(process.kill())
        await asyncio.sleep(0)  # it waits for the end of the process
        killing.cancel()
        with suppress(asyncio.CancelledError):
            await killing

        await only(before)

    asyncio.run(test())


def test_a_process_ends_by_itself_when_its_parent_hangs_up() -> None:
    async def test() -> None:
        process = decoding()
        await process.start(60)
        assert "Exit: status 0" in await process.kill(grace_s=60)

    asyncio.run(test())


def end(process: FramedProcess, number: signal.Signals) -> None:
    assert process.pid is not None
    os.kill(process.pid, number)


@pytest.mark.parametrize(
    ("disturb", "reason"),
    [
        (lambda process: end(process, signal.SIGKILL), "killed"),
        (lambda process: end(process, signal.SIGSEGV), "crashed"),
        (lambda process: end(process, signal.SIGSTOP), "timeout"),
        (FramedProcess.kill_now, "replaced"),
    ],
    ids=["killed", "crashed", "timeout", "replaced"],
)
def test_why_a_process_has_ended_is_known(
    disturb: Callable[[FramedProcess], None], reason: str
) -> None:
    async def test() -> None:
        process = decoding()
        await process.start(60)
        disturb(process)
        with pytest.raises((WireClosed, TimeoutError)):
            await process.ask({"geometry": "{}"}, [np.zeros(1, np.uint8)], 0.5)
        await process.kill(30)
        assert process.reason == reason

    asyncio.run(test())


def test_a_process_that_leaves_with_a_status_and_one_that_sends_what_is_wrong_differ() -> None:
    async def test() -> None:
        process = decoding()
        await process.start(60)
        with pytest.raises(WireClosed):
            await process.ask({"geometry": "{}"}, [np.zeros(1, np.uint8)], 30)
        await process.kill(30)
        assert process.reason == "exited", "the geometry is not valid"

        process = decoding()
        await process.start(60)
        await process.kill()
        assert process.reason == "protocol", "the parent kills it for what it has sent"

    asyncio.run(test())
