"""Response cache: an image seen before is not decoded or classified again by the same artifact.

Cached are the expensive parts, the logits and the description of the image; scores, labels and
`top_k` are computed for each request. The key is the sha256 of the artifact's identity and the
bytes of the image, so nothing needs invalidation: whatever changes the result changes the key.
Failures are not cached.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import NamedTuple

from cachetools import LRUCache

from bundle.imaging.decode import ImageInfo
from bundle.runtimes import Logits
from service.classifier import CacheUse, Outcome, Outcomes
from service.models.model import Target
from service.models.queued import Classification

# Larger images are hashed in a thread, for they would hold up the event loop.
MAX_INLINE_HASH_BYTES = 1_000_000
# Bytes of the key and of the tables' rows for one entry; a test measures them.
ENTRY_OVERHEAD = 500


class Entry(NamedTuple):
    """What is cached of one image."""

    info: ImageInfo
    logits: Logits


@dataclass(eq=False)
class Flight:
    """A computation in flight, shared by the requests that wait for one of its images."""

    # Its outcomes by key, and how many of them were stored.
    task: asyncio.Task[tuple[dict[bytes, Outcome], int]]
    keys: list[bytes]
    waiting: int = 0


class Cache:
    """`Classifier.classify` with an LRU cache of at most `max_bytes` before it.

    Not thread-safe: it belongs to the event loop.

    Args:
        classify: Computes what is not cached.
        max_bytes: Memory of the entries.
    """

    def __init__(
        self, classify: Callable[[Target, Sequence[bytes]], Awaitable[Outcomes]], max_bytes: int
    ) -> None:
        self._compute = classify
        self._entries: LRUCache[bytes, Entry] = LRUCache(max_bytes, getsizeof=_size)
        # By the key of each of their images.
        self._flights: dict[bytes, Flight] = {}
        # One for each image.
        self.lookups: Counter[str] = Counter(hit=0, miss=0, collapsed=0)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def held_bytes(self) -> int:
        """Memory used by the entries."""
        return int(self._entries.currsize)

    @property
    def max_bytes(self) -> int:
        """Memory limit of the entries."""
        return int(self._entries.maxsize)

    async def classify(self, target: Target, images: Sequence[bytes]) -> Outcomes:
        """As `Classifier.classify`; concurrent requests share the computation for one image.

        It continues when the request that began it leaves, and is cancelled when the last one does.
        """
        keys = [await _key(target, image) for image in images]
        found: dict[bytes, Outcome] = {}
        joined: dict[bytes, Flight] = {}
        missing: dict[bytes, bytes] = {}
        for key, image in zip(keys, images, strict=True):
            if (entry := self._entries.get(key)) is not None:
                self.lookups["hit"] += 1
                found[key] = Classification(entry.logits, entry.info, 0.0, 0.0, 0.0)
            elif (flight := self._flights.get(key)) is not None:
                self.lookups["collapsed"] += 1
                joined[key] = flight
            else:
                self.lookups["miss"] += 1
                missing[key] = image
        hits, own = len(found), None
        if missing:
            own = Flight(asyncio.create_task(self._fly(target, missing)), list(missing))
            self._flights |= dict.fromkeys(missing, own)
        started = time.perf_counter()
        flights = {*joined.values(), *([own] if own else ())}
        with self._waiting(flights):
            for flight in flights:
                await asyncio.shield(flight.task)
        waited = time.perf_counter() - started
        for key, flight in joined.items():
            outcome = flight.task.result()[0][key]
            if isinstance(outcome, Classification):  # this request only waited
                outcome = outcome._replace(decode_s=0.0, queue_s=waited, inference_s=0.0)
            found[key] = outcome
        computed, stored = own.task.result() if own else ({}, 0)
        found |= computed
        use = CacheUse(hits, len(joined), len(missing), stored)
        return Outcomes([found[key] for key in keys], use)

    @contextmanager
    def _waiting(self, flights: set[Flight]) -> Iterator[None]:
        """Count this request as waiting; the flights that none waits for any more are cancelled."""
        for flight in flights:
            flight.waiting += 1
        try:
            yield
        finally:
            for flight in flights:
                flight.waiting -= 1
                if not flight.waiting:
                    flight.task.cancel()
                    for key in flight.keys:
                        del self._flights[key]

    async def _fly(
        self, target: Target, missing: dict[bytes, bytes]
    ) -> tuple[dict[bytes, Outcome], int]:
        computed = await self._compute(target, list(missing.values()))
        outcomes = dict(zip(missing, computed.images, strict=True))
        return outcomes, sum(self._store(key, target, each) for key, each in outcomes.items())

    def _store(self, key: bytes, target: Target, outcome: Outcome) -> bool:
        """Store a result unless it is too large, or the process was replaced in between."""
        if not isinstance(outcome, Classification) or outcome.info is None:
            return False
        # A row of the logits of a batch would keep the whole batch in memory.
        entry = Entry(outcome.info, outcome.logits.copy())
        if not target.unchanged or _size(entry) > self.max_bytes:
            return False
        self._entries[key] = entry
        return True


async def _key(target: Target, data: bytes) -> bytes:
    """32 bytes. The device is part of it: the same artifact rounds differently on another one."""
    identity = "".join(f"{part}\0" for part in target.identity).encode()
    if len(data) > MAX_INLINE_HASH_BYTES:
        return await asyncio.to_thread(_sha256, identity, data)
    return _sha256(identity, data)


def _sha256(*parts: bytes) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


def _size(entry: Entry) -> int:
    """Memory of an entry, in bytes."""
    described = (getattr(entry.info, field.name) for field in fields(entry.info))
    parts = (entry, entry.logits, entry.info, *described, *entry.info.operations)
    return ENTRY_OVERHEAD + sum(map(sys.getsizeof, parts))
