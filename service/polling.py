"""Files that are read again when they change: at intervals, and at once when someone asks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

log = logging.getLogger("service")


class Poll:
    """Calls a function at intervals, and when asked.

    Args:
        look: gets whether it was asked for. In a thread, because files may lie on a network drive;
            what it raises is logged, and ends nothing.
        interval_s: in seconds; 0: only when asked.
    """

    def __init__(self, look: Callable[[bool], object], interval_s: float) -> None:
        self._look = look
        self._interval_s = interval_s
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Have `run` look now."""
        self._asked.set()

    async def run(self) -> None:
        """Look, until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s or None):
                    await self._asked.wait()
            asked = self._asked.is_set()
            self._asked.clear()
            try:
                await asyncio.to_thread(self._look, asked)
            except Exception:
                log.exception("a file could not be followed")
