"""Work for a client that may leave."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from fastapi import Request

from service.api.problems import ClientGone

T = TypeVar("T")


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled when the client closes the connection."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a route runs in a task
    left = False

    async def watch() -> None:
        nonlocal left
        while (await request.receive())["type"] != "http.disconnect":
            pass
        left = True
        task.cancel()

    watching = asyncio.create_task(watch())
    try:
        return await work
    except asyncio.CancelledError:
        # Shutting down cancels it too.
        if not left or task.uncancel():
            raise
        raise ClientGone from None
    finally:
        watching.cancel()
