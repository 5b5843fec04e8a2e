"""Answers that are kept: over a real socket, and the cache alone where time or memory has to be held still."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest

from bundle.format.manifest import parse_manifest
from bundle.imaging.decode import ImageInfo
from service.cache import Asked, Cache, One
from service.errors import QueueFull
from service.models.batcher import InferenceResult
from tests.service.api.test_problems import assert_problem
from tests.service.conftest import Server
from tests.service.images import coloured, encode, varied
from tests.service.models.test_lifecycle import ask_and_stay, edit_manifest, paused

HIT = "resnet-service; hit"
STORED = "resnet-service; fwd=miss; stored"


def status(answer: httpx.Response) -> str | None:
    return answer.headers.get("cache-status")


def batch(server: Server, *images: bytes) -> httpx.Response:
    files = [("files", (f"{number}.png", image)) for number, image in enumerate(images)]
    return server.client.post("/predict/batch", files=files)


def test_the_same_image_gets_the_same_answer_without_work(caching_server: Server) -> None:
    data = encode(varied(seed=100))

    first = caching_server.predict(data)
    again = caching_server.client.post(
        "/predict", content=data, headers={"content-type": "image/png"}
    )

    assert [status(first), status(again)] == [STORED, HIT]
    body, same = first.json(), again.json()
    assert all(same[part] == body[part] for part in ("predictions", "model", "image"))
    assert body["timing_ms"]["inference"] > 0
    assert {name: same["timing_ms"][name] for name in ("decode", "queue", "inference")} == {
        "decode": 0,
        "queue": 0,
        "inference": 0,
    }
    assert same["timing_ms"]["total"] > 0
    assert same["request_id"] == again.headers["x-request-id"] != body["request_id"]


def test_top_k_may_differ_between_requests(caching_server: Server) -> None:
    data = encode(varied(seed=101))

    one, three = caching_server.predict(data, top_k=1), caching_server.predict(data, top_k=3)

    assert status(three) == HIT
    assert len(three.json()["predictions"]) == 3
    assert three.json()["predictions"][:1] == one.json()["predictions"]


def test_a_large_image_is_found_too(caching_server: Server) -> None:
    data = encode(varied(800, 700, seed=102), "BMP")

    answers = [caching_server.predict(data) for _ in range(2)]

    assert len(data) > 1_000_000
    assert [status(answer) for answer in answers] == [STORED, HIT]


def test_failures_are_not_kept(caching_server: Server) -> None:
    data = encode(varied(seed=103), "JPEG")[:-200]

    for answer in (caching_server.predict(data), caching_server.predict(data)):
        assert_problem(answer, 422, "unreadable_image")
        assert status(answer) is None


def test_a_batch_is_a_hit_when_all_of_its_images_are(caching_server: Server) -> None:
    known, new, newer = (encode(varied(seed=seed)) for seed in (104, 105, 106))
    alone = caching_server.predict(known).json()

    some = batch(caching_server, new, known, new)
    all_of_them = batch(caching_server, known, new)
    with_a_bad_one = batch(caching_server, newer, b"no image", known)
    none = batch(caching_server, b"no image")

    assert status(some) == "resnet-service; fwd=partial; stored"
    results = some.json()["results"]
    assert [result["filename"] for result in results] == ["0.png", "1.png", "2.png"]
    assert results[1]["predictions"] == alone["predictions"]
    assert results[0]["predictions"] == results[2]["predictions"] != alone["predictions"]
    assert status(all_of_them) == HIT
    assert [result["predictions"] for result in all_of_them.json()["results"]] == [
        alone["predictions"],
        results[0]["predictions"],
    ]
    assert (
        all_of_them.json()["timing_ms"]["decode"]
        == all_of_them.json()["timing_ms"]["inference"]
        == 0
    )
    assert status(with_a_bad_one) == "resnet-service; fwd=partial"
    assert [set(result) for result in with_a_bad_one.json()["results"]] == [
        {"filename", "predictions", "image"},
        {"filename", "error"},
        {"filename", "predictions", "image"},
    ]
    assert status(caching_server.predict(newer)) == HIT
    assert status(none) == "resnet-service; fwd=miss"


def test_requests_that_come_together_share_the_work_even_when_the_first_one_leaves(
    caching_server: Server,
) -> None:
    data = encode(varied(seed=107))
    with ThreadPoolExecutor(1) as pool:
        with paused(caching_server):
            leaving = ask_and_stay(caching_server, data)
            time.sleep(0.5)
            staying = pool.submit(caching_server.predict, data)
            time.sleep(0.5)
            leaving.close()
            time.sleep(0.5)
        answer = staying.result()

    assert answer.status_code == 200
    assert status(answer) == "resnet-service; fwd=miss; collapsed"
    timing = answer.json()["timing_ms"]
    assert timing["decode"] == timing["inference"] == 0
    assert 0 < timing["queue"] <= timing["total"]
    assert status(caching_server.predict(data)) == HIT


def test_a_bundle_that_has_changed_does_not_answer_from_what_was_kept(
    caching_server: Server,
) -> None:
    data = encode(varied(seed=108))
    assert [status(caching_server.predict(data)) for _ in range(2)] == [STORED, HIT]
    ((bundle, pid),) = caching_server.worker_pids().items()

    edit_manifest(Path(bundle), lambda manifest: manifest.update(description="Another."))
    os.kill(pid, signal.SIGKILL)
    caching_server.wait(lambda: caching_server.worker_pids().get(bundle, pid) != pid, "restarted")
    caching_server.wait_ready()

    assert status(caching_server.predict(data)) == STORED


def test_without_a_cache_there_is_no_header(server: Server) -> None:
    answers = [server.predict(coloured()), server.predict(coloured()), batch(server, coloured())]

    assert [status(answer) for answer in answers] == [None, None, None]


def test_the_description_of_the_api_has_the_header(server: Server) -> None:
    paths = server.client.get("/openapi.json").json()["paths"]

    for path in ("/predict", "/predict/batch"):
        answered = paths[path]["post"]["responses"]["200"]
        assert "Cache-Status" in answered["headers"]
        assert "application/json" in answered["content"]


class Model:
    """Stands for a model whose process can be replaced at will."""

    def __init__(self) -> None:
        self.manifest = SimpleNamespace(digest="0" * 64)
        self.start("openvino-int8")

    def start(self, artifact: str, device: str = "cpu") -> None:
        self.info = {"artifact_id": artifact, "device": device}

    def asked(self) -> Asked:
        return Asked(self, self.manifest, self.info)  # type: ignore[arg-type]


def answer(number: float, classes: int = 10) -> One:
    """What a decoder process and a batch of 32 give for one image."""
    info = ImageInfo("JPEG", 500, 400, "RGB", ["decoded_at_1_4", "exif_orientation_6"])
    received = ImageInfo(**json.loads(json.dumps(asdict(info))))  # shares no text with another
    logits = np.full((32, classes), number, np.float32)
    return received, 0.1, InferenceResult(logits[0], 0.01, 0.02)


def work(number: float, classes: int = 10) -> Callable[[], Awaitable[One]]:
    async def run() -> One:
        return answer(number, classes)

    return run


def logit(found: tuple[One, str]) -> float:
    return float(found[0][2].logits[0])


def test_an_artifact_never_answers_for_another() -> None:
    async def main() -> None:
        cache, model = Cache(2**20), Model()
        assert logit(await cache.one(model.asked(), b"x", work(1))) == 1
        model.start("openvino-fp32")
        assert logit(await cache.one(model.asked(), b"x", work(2))) == 2
        model.start("openvino-fp32", "cuda")
        assert logit(await cache.one(model.asked(), b"x", work(3))) == 3
        model.start("openvino-int8")
        assert logit(await cache.one(model.asked(), b"x", work(4))) == 1

    asyncio.run(main())


def test_an_answer_that_has_seen_a_restart_is_not_kept() -> None:
    async def main() -> None:
        cache, model = Cache(2**20), Model()

        async def restarted() -> One:
            model.start("openvino-fp32")
            return answer(1)

        _, told = await cache.one(model.asked(), b"x", restarted)

        assert told == "fwd=miss"
        assert len(cache) == 0

    asyncio.run(main())


def test_work_is_cancelled_when_nobody_waits_for_it_and_begins_anew_for_the_next() -> None:
    async def main() -> None:
        cache, model, cancelled = Cache(2**20), Model(), []

        async def endless() -> One:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.append(True)
            raise AssertionError

        clients = [asyncio.create_task(cache.one(model.asked(), b"x", endless)) for _ in range(2)]
        await asyncio.sleep(0.01)
        clients[0].cancel()
        await asyncio.sleep(0.01)
        assert not cancelled
        clients[1].cancel()
        await asyncio.sleep(0)  # it has left, and the work is about to hear of it
        next_one = await cache.one(model.asked(), b"x", work(1))
        await asyncio.gather(*clients, return_exceptions=True)

        assert cancelled == [True]
        assert next_one[1] == "fwd=miss; stored"
        assert cache.lookups == {"hit": 0, "miss": 2, "collapsed": 1}

    asyncio.run(main())


def test_all_who_wait_hear_of_a_failure_and_the_next_one_tries_again() -> None:
    async def main() -> None:
        cache, model = Cache(2**20), Model()

        async def refused() -> One:
            await asyncio.sleep(0.01)
            raise QueueFull("full")

        asked = [cache.one(model.asked(), b"x", refused) for _ in range(3)]
        failures = await asyncio.gather(*asked, return_exceptions=True)

        assert [type(failure) for failure in failures] == [QueueFull] * 3
        assert logit(await cache.one(model.asked(), b"x", work(1))) == 1

    asyncio.run(main())


def test_the_least_recently_used_entries_go_first() -> None:
    async def main() -> None:
        cache, model = Cache(10_000), Model()

        async def ask(name: bytes) -> str:
            return (await cache.one(model.asked(), name, work(1)))[1]

        await ask(b"first")
        for number in range(100):
            await ask(b"%d" % number)
            assert cache.held_bytes <= cache.max_bytes
            assert await ask(b"first") == "hit"
        assert len(cache) > 5
        assert await ask(b"0") == "fwd=miss; stored"

    asyncio.run(main())


def test_what_is_larger_than_the_cache_is_not_kept() -> None:
    async def main() -> None:
        cache = Cache(10_000)

        _, told = await cache.one(Model().asked(), b"x", work(1, classes=5_000))

        assert (told, len(cache)) == ("fwd=miss", 0)

    asyncio.run(main())


@pytest.mark.parametrize("classes", [10, 1000])
@pytest.mark.parametrize(
    "entries", [1_000, 1_500]
)  # just before and after the tables of the cache grow
def test_the_bytes_that_are_counted_are_those_that_are_held(classes: int, entries: int) -> None:
    async def main() -> tuple[int, Any]:
        cache, model = Cache(2**30), Model()
        before = tracemalloc.get_traced_memory()[0]
        for number in range(entries):
            await cache.one(model.asked(), b"%d" % number, work(1, classes))
        return tracemalloc.get_traced_memory()[0] - before, cache

    tracemalloc.start()
    try:
        held, cache = asyncio.run(main())
    finally:
        tracemalloc.stop()

    assert 0.9 < cache.held_bytes / held < 1.35


def test_the_digest_of_a_bundle_is_that_of_its_record(torch_bundle_root: Path) -> None:
    text = (torch_bundle_root / "tiny-torch" / "1" / "manifest.json").read_text()
    record = json.loads(text)
    other = record | {"description": "Another."}

    digests = [
        parse_manifest(json.dumps(each, indent=4).encode()).digest
        for each in (record, record, other)
    ]

    assert digests[0] == digests[1] != digests[2]
