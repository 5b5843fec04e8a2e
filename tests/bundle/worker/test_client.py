"""A child process that answers frames, as the pool of decoders starts it."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from bundle.worker.client import FramedProcess
from bundle.worker.wire import WireClosed
from service.settings import Settings


def open_files() -> set[str]:
    found = set()
    for handle in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one of the listing itself
            found.add(str(handle.readlink()))
    return found


def decoding() -> FramedProcess:
    limits = dataclasses.asdict(Settings().image_limits)
    return FramedProcess("service.decoding", {"limits": limits, "memory_bytes": 2**30}, "cpu", 1)


@pytest.mark.parametrize(
    "short", [MemoryError(), RuntimeError("no more"), OSError(24, "Too many open files")]
)
@pytest.mark.parametrize(
    "where", ["subprocess.Popen", "asyncio.SelectorEventLoop.connect_read_pipe"]
)
def test_a_process_that_can_not_be_started_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, where: str, short: Exception
) -> None:
    async def test() -> None:
        before, processes = open_files(), psutil.Process().children()

        def fail(*_: object, **__: object) -> None:
            raise short

        monkeypatch.setattr(where, fail)
        with pytest.raises(WireClosed, match=str(short.args[-1]) if short.args else "MemoryError"):
            await decoding().start(60)
        await asyncio.sleep(0.1)
        assert not open_files() - before
        assert psutil.Process().children() == processes

    asyncio.run(test())


def test_no_thread_is_needed_and_what_a_process_said_last_is_known() -> None:
    async def test() -> None:
        process = FramedProcess("bundle.worker", {}, "cpu", 1)
        threads = threading.active_count()
        with pytest.raises(
            WireClosed, match=r"(?s)ended.*status 1.*Its last lines.*KeyError: 'bundle'"
        ):
            await process.start(60)
        assert threading.active_count() == threads
        assert await process.kill() == await process.kill(), "it may be said again"

    asyncio.run(test())


def test_a_kill_that_is_cancelled_gives_the_handles_back_all_the_same() -> None:
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

        deadline = time.monotonic() + 5
        while left := open_files() - before:
            assert time.monotonic() < deadline, left
            await asyncio.sleep(0.05)

    asyncio.run(test())
