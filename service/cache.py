"""Answers that are kept: an image that came before, to the same artifact of the same bundle, is not worked on again.

What is kept is what is expensive, the logits and the description of the image; scores, labels and `top_k` are worked
out for each request. An entry is found by the sha256 of the artifact's identity and the bytes of the image, so there
is nothing to invalidate: what changes the answer changes the key. Failures are not kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields
from typing import NamedTuple

from cachetools import LRUCache
from starlette.responses import Response

from bundle.format.manifest import Manifest
from bundle.imaging.decode import ImageInfo
from bundle.worker.blocking import RuntimeInfo
from service.api.uploads import Upload
from service.models.batcher import InferenceResult, Logits
from service.models.model import ServedModel

HEADER = "Cache-Status"  # RFC 9211
NAME = "resnet-service"  # of this cache among those that a request may pass
HASHED_AT_ONCE = (
    1_000_000  # bytes; more of them are hashed beside the event loop, which they would hold up
)
ENTRY_OVERHEAD = 500  # bytes of the key and of the tables' rows for one entry; a test measures them

One = tuple[ImageInfo, float, InferenceResult]  # of one image; the seconds are those of decoding
Several = tuple[
    list[ImageInfo | Exception], float, list[InferenceResult]
]  # the answers are those of the decoded ones


class Entry(NamedTuple):
    """What is kept of one image."""

    info: ImageInfo
    logits: Logits


@dataclass(eq=False)
class Flight:
    """Work that requests for the same image wait for together; its result, and whether that is kept now."""

    task: asyncio.Task[tuple[One, bool]]
    waiting: int = 0


class Asked(NamedTuple):
    """Who is to answer, as it was when the request came."""

    model: ServedModel
    manifest: Manifest
    info: RuntimeInfo

    @property
    def unchanged(self) -> bool:
        """Whether the process has not been replaced since then, maybe by one with another artifact."""
        return self.model.manifest is self.manifest and self.model.info is self.info


class Cache:
    """The least recently used entries go when there are more than `max_bytes`; lives on the event loop."""

    def __init__(self, max_bytes: int) -> None:
        self._entries: LRUCache[bytes, Entry] = LRUCache(max_bytes, getsizeof=_size)
        self._flights: dict[bytes, Flight] = {}
        self.lookups: Counter[str] = Counter(hit=0, miss=0, collapsed=0)  # one for each image

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def held_bytes(self) -> int:
        """What the entries take in memory."""
        return int(self._entries.currsize)

    @property
    def max_bytes(self) -> int:
        """What they may take."""
        return int(self._entries.maxsize)

    async def one(
        self, asked: Asked, data: bytes, work: Callable[[], Awaitable[One]]
    ) -> tuple[One, str]:
        """What is kept for an image, or else what `work` gives, and how the header tells of it.

        Requests for one image that come together share one run of `work`. It goes on when the first of them leaves,
        and is cancelled when the last one does.
        """
        key = await _key(asked, data)
        entry = self._entries.get(key)
        if entry is not None:
            self.lookups["hit"] += 1
            return _from(entry), "hit"
        flight = self._flights.get(key)
        first = flight is None
        if flight is None:
            flight = Flight(asyncio.create_task(self._work(key, asked, work)))
            self._flights[key] = flight
        self.lookups["miss" if first else "collapsed"] += 1
        began = time.perf_counter()
        flight.waiting += 1
        try:
            found, kept = await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting:
                flight.task.cancel()
                del self._flights[key]
        if first:
            return found, "fwd=miss; stored" if kept else "fwd=miss"
        # All that this request has done is to wait.
        decoded, _, answer = found
        return (
            decoded,
            0.0,
            InferenceResult(answer.logits, time.perf_counter() - began, 0.0),
        ), "fwd=miss; collapsed"

    async def several(
        self,
        asked: Asked,
        uploads: list[Upload],
        work: Callable[[list[Upload]], Awaitable[Several]],
    ) -> tuple[Several, str]:
        """As `one`, of several images: `work` is given those that are not kept, each once."""
        keys = [await _key(asked, upload.data) for upload in uploads]
        entries = {key: self._entries.get(key) for key in keys}
        missing = {
            key: upload for key, upload in zip(keys, uploads, strict=True) if entries[key] is None
        }
        hits = sum(entries[key] is not None for key in keys)
        self.lookups["hit"] += hits
        self.lookups["miss"] += len(keys) - hits

        found: dict[bytes, tuple[ImageInfo, InferenceResult] | Exception] = {}
        for key, entry in entries.items():
            if entry is not None:
                decoded, _, answer = _from(entry)
                found[key] = decoded, answer
        items, decode_s, answers = await work(list(missing.values())) if missing else ([], 0.0, [])
        kept, remaining = 0, iter(answers)
        for key, item in zip(missing, items, strict=True):
            if isinstance(item, Exception):
                found[key] = item
            else:
                answer = next(remaining)
                found[key] = item, answer
                kept += self._keep(key, asked, item, answer)

        in_order = [found[key] for key in keys]
        result: Several = (
            [each if isinstance(each, Exception) else each[0] for each in in_order],
            decode_s,
            [each[1] for each in in_order if not isinstance(each, Exception)],
        )
        if not missing:
            return result, "hit"
        status = "fwd=partial" if hits else "fwd=miss"
        return result, f"{status}; stored" if kept == len(missing) else status

    async def _work(
        self, key: bytes, asked: Asked, work: Callable[[], Awaitable[One]]
    ) -> tuple[One, bool]:
        found = await work()
        decoded, _, answer = found
        return found, self._keep(key, asked, decoded, answer)

    def _keep(self, key: bytes, asked: Asked, decoded: ImageInfo, answer: InferenceResult) -> bool:
        """Whether the answer is kept: it fits, and the process that was asked has given it."""
        # A row of the logits of a batch would keep the whole batch in memory.
        entry = Entry(decoded, answer.logits.copy())
        if not asked.unchanged or _size(entry) > self.max_bytes:
            return False
        self._entries[key] = entry
        return True


async def answer_one(
    cache: Cache | None,
    response: Response,
    model: ServedModel,
    manifest: Manifest,
    upload: Upload,
    work: Callable[[], Awaitable[One]],
) -> One:
    """What `work` gives for an image, or what is kept of it; the header says which, where there is a cache."""
    if cache is None:
        return await work()
    found, status = await cache.one(_asked(model, manifest), upload.data, work)
    response.headers[HEADER] = f"{NAME}; {status}"
    return found


async def answer_several(
    cache: Cache | None,
    response: Response,
    model: ServedModel,
    manifest: Manifest,
    uploads: list[Upload],
    work: Callable[[list[Upload]], Awaitable[Several]],
) -> Several:
    """As `answer_one`, of several images."""
    if cache is None:
        return await work(uploads)
    found, status = await cache.several(_asked(model, manifest), uploads, work)
    response.headers[HEADER] = f"{NAME}; {status}"
    return found


def _asked(model: ServedModel, manifest: Manifest) -> Asked:
    assert model.info is not None  # noqa: S101 - it comes with the manifest
    return Asked(model, manifest, model.info)


async def _key(asked: Asked, data: bytes) -> bytes:
    """32 bytes; the device counts, for the same artifact rounds otherwise on another."""
    identity = (
        f"{asked.manifest.digest}\0{asked.info['artifact_id']}\0{asked.info['device']}\0".encode()
    )
    if len(data) > HASHED_AT_ONCE:
        return await asyncio.to_thread(_sha256, identity, data)
    return _sha256(identity, data)


def _sha256(*parts: bytes) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


def _from(entry: Entry) -> One:
    return entry.info, 0.0, InferenceResult(entry.logits, 0.0, 0.0)


def _size(entry: Entry) -> int:
    """What an entry takes in memory, in bytes."""
    described = (getattr(entry.info, field.name) for field in fields(entry.info))
    parts = (entry, entry.logits, entry.info, *described, *entry.info.operations)
    return ENTRY_OVERHEAD + sum(map(sys.getsizeof, parts))
