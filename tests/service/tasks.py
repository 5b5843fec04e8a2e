"""Waiting in tests that are coroutines, without a guess at how long something takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def settle() -> None:
    """Let every task run until it waits for something other than another task."""
    # No chain of tasks that wake each other is nearly this long.
    for _ in range(50):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what comes from a timer, a thread or a process, and fail only if it never comes."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - it sets no event
            await asyncio.sleep(0.01)
