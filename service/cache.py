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
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple, Self

from cachetools import LRUCache

from bundle.format.manifest import Manifest
from bundle.imaging.decode import ImageInfo
from bundle.worker.responses import RuntimeInfo
from service.errors import Failure
from service.models.batcher import InferenceResult, Logits
from service.models.model import ServedModel

# Larger images are hashed in a thread, for they would hold up the event loop.
MAX_INLINE_HASH_BYTES = 1_000_000
# Bytes of the key and of the tables' rows for one entry; a test measures them.
ENTRY_OVERHEAD = 500


class Classified(NamedTuple):
    """One image, decoded and classified."""

    info: ImageInfo
    inference: InferenceResult


class Result(NamedTuple):
    """What a request for one image computes."""

    image: Classified
    decode_s: float


class BatchResult(NamedTuple):
    """What a request for several images computes, in their order."""

    images: list[Classified | Failure]
    decode_s: float


class Entry(NamedTuple):
    """What is cached of one image."""

    info: ImageInfo
    logits: Logits


@dataclass(eq=False)
class Flight:
    """A computation in flight, shared by the requests for one image."""

    task: asyncio.Task[tuple[Result, bool]]  # and whether the result was stored
    waiting: int = 0


class Target(NamedTuple):
    """The model, manifest and runtime a request was admitted against."""

    model: ServedModel
    manifest: Manifest
    info: RuntimeInfo

    @classmethod
    def of(cls, model: ServedModel, manifest: Manifest) -> Self:
        """The target of a request now."""
        assert model.info is not None  # noqa: S101 - it comes with the manifest
        return cls(model, manifest, model.info)

    @property
    def unchanged(self) -> bool:
        """Whether the process is the same; another one may run another artifact."""
        return self.model.manifest is self.manifest and self.model.info is self.info


class Cache:
    """LRU cache of at most `max_bytes`. Not thread-safe: it belongs to the event loop.

    Lookups return the result and its `Cache-Status` parameters (RFC 9211).
    """

    def __init__(self, max_bytes: int) -> None:
        self._entries: LRUCache[bytes, Entry] = LRUCache(max_bytes, getsizeof=_size)
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

    async def one(
        self, target: Target, data: bytes, compute: Callable[[], Awaitable[Result]]
    ) -> tuple[Result, str]:
        """The cached result of an image, or else that of `compute`.

        Concurrent requests for one image share one run of `compute`. It continues when the first of
        them leaves, and is cancelled when the last one does.
        """
        key = await _key(target, data)
        entry = self._entries.get(key)
        if entry is not None:
            self.lookups["hit"] += 1
            return Result(_cached(entry), 0.0), "hit"
        flight = self._flights.get(key)
        first = flight is None
        if flight is None:
            flight = Flight(asyncio.create_task(self._compute(key, target, compute)))
            self._flights[key] = flight
        self.lookups["miss" if first else "collapsed"] += 1
        started = time.perf_counter()
        flight.waiting += 1
        try:
            result, stored = await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting:
                flight.task.cancel()
                del self._flights[key]
        if first:
            return result, "fwd=miss; stored" if stored else "fwd=miss"
        # This request only waited.
        waited = InferenceResult(
            result.image.inference.logits, time.perf_counter() - started, inference_s=0.0
        )
        return Result(Classified(result.image.info, waited), 0.0), "fwd=miss; collapsed"

    async def several(
        self,
        target: Target,
        images: Sequence[bytes],
        compute: Callable[[list[bytes]], Awaitable[BatchResult]],
    ) -> tuple[BatchResult, str]:
        """As `one`, for several images: `compute` gets those that are not cached, each once."""
        keys = [await _key(target, data) for data in images]
        found: dict[bytes, Classified | Failure] = {}
        missing: dict[bytes, bytes] = {}
        for key, data in zip(keys, images, strict=True):
            entry = self._entries.get(key)
            if entry is None:
                missing[key] = data
            else:
                found[key] = _cached(entry)
        hits = sum(key in found for key in keys)
        self.lookups["hit"] += hits
        self.lookups["miss"] += len(keys) - hits

        decode_s, stored = 0.0, 0
        if missing:
            computed, decode_s = await compute(list(missing.values()))
            for key, image in zip(missing, computed, strict=True):
                found[key] = image
                stored += isinstance(image, Classified) and self._store(key, target, image)
        result = BatchResult([found[key] for key in keys], decode_s)
        if not missing:
            return result, "hit"
        status = "fwd=partial" if hits else "fwd=miss"
        return result, f"{status}; stored" if stored == len(missing) else status

    async def _compute(
        self, key: bytes, target: Target, compute: Callable[[], Awaitable[Result]]
    ) -> tuple[Result, bool]:
        result = await compute()
        return result, self._store(key, target, result.image)

    def _store(self, key: bytes, target: Target, image: Classified) -> bool:
        """Store a result unless it is too large, or the process was replaced in between."""
        # A row of the logits of a batch would keep the whole batch in memory.
        entry = Entry(image.info, image.inference.logits.copy())
        if not target.unchanged or _size(entry) > self.max_bytes:
            return False
        self._entries[key] = entry
        return True


async def _key(target: Target, data: bytes) -> bytes:
    """32 bytes. The device is part of it: the same artifact rounds differently on another one."""
    parts = target.manifest.digest, target.info["artifact_id"], target.info["device"]
    identity = "".join(f"{part}\0" for part in parts).encode()
    if len(data) > MAX_INLINE_HASH_BYTES:
        return await asyncio.to_thread(_sha256, identity, data)
    return _sha256(identity, data)


def _sha256(*parts: bytes) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


def _cached(entry: Entry) -> Classified:
    return Classified(entry.info, InferenceResult(entry.logits, queue_s=0.0, inference_s=0.0))


def _size(entry: Entry) -> int:
    """Memory of an entry, in bytes."""
    described = (getattr(entry.info, field.name) for field in fields(entry.info))
    parts = (entry, entry.logits, entry.info, *described, *entry.info.operations)
    return ENTRY_OVERHEAD + sum(map(sys.getsizeof, parts))
