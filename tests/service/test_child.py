"""A child process that answers frames, as the pool of decoders starts it."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from contextlib import suppress
from pathlib import Path

from service.child import FramedProcess
from service.settings import Settings


def open_files() -> set[str]:
    found = set()
    for handle in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one of the listing itself
            found.add(str(handle.readlink()))
    return found


def test_a_kill_that_is_cancelled_gives_the_handles_back_all_the_same() -> None:
    async def test() -> None:
        limits = dataclasses.asdict(Settings().image_limits)
        process = FramedProcess("service.decoding", {"limits": limits, "memory_bytes": 2**30}, "cpu", 1)
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
