"""The response cache: over a real socket, and alone where order or memory has to be controlled."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tracemalloc
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import httpx
import numpy as np
import pytest

from bundle.format.manifest import Manifest, parse_manifest
from bundle.imaging.decode import ImageInfo
from bundle.worker.blocking import RuntimeInfo
from service.cache import Cache, Classified, Result, Target
from service.errors import QueueFull
from service.models.batcher import InferenceResult
from service.models.model import ServedModel
from tests.service.api.test_problems import assert_problem
from tests.service.conftest import Server
from tests.service.images import coloured, encode, varied
from tests.service.models.test_lifecycle import ask_and_stay, edit_manifest, paused

HIT = "resnet-service; hit"
STORED = "resnet-service; fwd=miss; stored"


def status(answer: httpx.Response) -> str | None:
    header: str | None = answer.headers.get("cache-status")
    return header


def counter(server: Server, name: str, **labels: str) -> float:
    """A counter in /metrics; 0 before the first event."""
    series = name + "{" + ",".join(f'{label}="{labels[label]}"' for label in sorted(labels)) + "} "
    lines = server.client.get("/metrics").text.splitlines()
    return sum(float(line.removeprefix(series)) for line in lines if line.startswith(series))


def batch(server: Server, *images: bytes) -> httpx.Response:
    files = [("files", (f"{number}.png", image)) for number, image in enumerate(images)]
    return server.client.post("/predict/batch", files=files)


def test_the_same_image_gets_the_same_response_without_work(caching_server: Server) -> None:
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


def test_large_images_are_cached_too(caching_server: Server) -> None:
    data = encode(varied(800, 700, seed=102), "BMP")

    answers = [caching_server.predict(data) for _ in range(2)]

    assert len(data) > 1_000_000
    assert [status(answer) for answer in answers] == [STORED, HIT]


def test_failures_are_not_cached(caching_server: Server) -> None:
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


def test_concurrent_requests_share_the_work_even_when_the_first_client_leaves(
    caching_server: Server,
) -> None:
    data = encode(varied(seed=107))

    def lookups(result: str) -> float:
        return counter(caching_server, "resnet_cache_lookups_total", result=result)

    def gone() -> float:
        route = {"method": "POST", "route": "/predict", "status": "499"}
        return counter(caching_server, "http_requests_total", **route)

    missed, collapsed, left = lookups("miss"), lookups("collapsed"), gone()
    with ThreadPoolExecutor(1) as pool:
        with paused(caching_server):
            leaving = ask_and_stay(caching_server, data)
            caching_server.wait(lambda: lookups("miss") > missed, "looked up")
            staying = pool.submit(caching_server.predict, data)
            caching_server.wait(lambda: lookups("collapsed") > collapsed, "waiting for the first")
            leaving.close()
            caching_server.wait(lambda: gone() > left, "left by the first client")
        answer = staying.result()

    assert answer.status_code == 200
    assert status(answer) == "resnet-service; fwd=miss; collapsed"
    timing = answer.json()["timing_ms"]
    assert timing["decode"] == timing["inference"] == 0
    assert 0 < timing["queue"] <= timing["total"]
    assert status(caching_server.predict(data)) == HIT


def test_a_changed_bundle_does_not_use_the_entries_of_the_old_one(
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
    """A model whose process can be replaced at will."""

    def __init__(self) -> None:
        self.manifest = SimpleNamespace(digest="0" * 64)
        self.start("openvino-int8")

    def start(self, artifact: str, device: str = "cpu") -> None:
        self.info = {"artifact_id": artifact, "device": device}

    def target(self) -> Target:
        return Target(
            cast("ServedModel", self),
            cast("Manifest", self.manifest),
            cast("RuntimeInfo", self.info),
        )


def computed(number: float, classes: int = 10) -> Result:
    """The result of one image of a batch of 32, as received from the processes."""
    info = ImageInfo("JPEG", 500, 400, "RGB", ["decoded_at_1_4", "exif_orientation_6"])
    received = ImageInfo(**json.loads(json.dumps(asdict(info))))  # shares no text with another
    logits = np.full((32, classes), number, np.float32)
    return Result(Classified(received, InferenceResult(logits[0], 0.01, 0.02)), 0.1)


def work(number: float, classes: int = 10) -> Callable[[], Awaitable[Result]]:
    async def run() -> Result:
        return computed(number, classes)

    return run


def logit(found: tuple[Result, str]) -> float:
    return float(found[0].image.inference.logits[0])


async def until(condition: Callable[[], bool]) -> None:
    """Let the other tasks run until `condition` holds."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - the cache has no event for it
            await asyncio.sleep(0)


def test_an_artifact_never_uses_the_entries_of_another() -> None:
    async def main() -> None:
        cache, model = Cache(2**20), Model()
        assert logit(await cache.one(model.target(), b"x", work(1))) == 1
        model.start("openvino-fp32")
        assert logit(await cache.one(model.target(), b"x", work(2))) == 2
        model.start("openvino-fp32", "cuda")
        assert logit(await cache.one(model.target(), b"x", work(3))) == 3
        model.start("openvino-int8")
        assert logit(await cache.one(model.target(), b"x", work(4))) == 1

    asyncio.run(main())


def test_a_result_during_which_the_process_was_replaced_is_not_cached() -> None:
    async def main() -> None:
        cache, model = Cache(2**20), Model()

        async def restarted() -> Result:
            model.start("openvino-fp32")
            return computed(1)

        _, status = await cache.one(model.target(), b"x", restarted)

        assert status == "fwd=miss"
        assert len(cache) == 0

    asyncio.run(main())


def test_work_is_cancelled_when_the_last_client_leaves_and_started_again_for_the_next() -> None:
    async def main() -> None:
        cache, model, cancelled = Cache(2**20), Model(), []

        async def endless() -> Result:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.append(True)
            raise AssertionError

        clients = [asyncio.create_task(cache.one(model.target(), b"x", endless)) for _ in range(2)]
        await until(lambda: cache.lookups["collapsed"] == 1)
        clients[0].cancel()
        await asyncio.wait(clients[:1])
        assert not cancelled
        clients[1].cancel()
        # One step: the client has left, and the work is about to be cancelled.
        await asyncio.sleep(0)
        next_one = await cache.one(model.target(), b"x", work(1))
        await asyncio.gather(*clients, return_exceptions=True)

        assert cancelled == [True]
        assert next_one[1] == "fwd=miss; stored"
        assert cache.lookups == {"hit": 0, "miss": 2, "collapsed": 1}

    asyncio.run(main())


def test_a_failure_reaches_all_waiting_requests_and_the_next_one_computes_again() -> None:
    async def main() -> None:
        cache, model = Cache(2**20), Model()

        async def refused() -> Result:
            await until(lambda: cache.lookups["collapsed"] == 2)
            raise QueueFull("full")

        requests = [cache.one(model.target(), b"x", refused) for _ in range(3)]
        failures = await asyncio.gather(*requests, return_exceptions=True)

        assert [type(failure) for failure in failures] == [QueueFull] * 3
        assert logit(await cache.one(model.target(), b"x", work(1))) == 1

    asyncio.run(main())


def test_the_least_recently_used_entries_go_first() -> None:
    async def main() -> None:
        cache, model = Cache(10_000), Model()

        async def lookup(name: bytes) -> str:
            return (await cache.one(model.target(), name, work(1)))[1]

        await lookup(b"first")
        for number in range(100):
            await lookup(b"%d" % number)
            assert cache.held_bytes <= cache.max_bytes
            assert await lookup(b"first") == "hit"
        assert len(cache) > 5
        assert await lookup(b"0") == "fwd=miss; stored"

    asyncio.run(main())


def test_a_result_larger_than_the_cache_is_not_stored() -> None:
    async def main() -> None:
        cache = Cache(10_000)

        _, status = await cache.one(Model().target(), b"x", work(1, classes=5_000))

        assert (status, len(cache)) == ("fwd=miss", 0)

    asyncio.run(main())


@pytest.mark.parametrize("classes", [10, 1000])
# Just before and after the tables of the cache grow.
@pytest.mark.parametrize("entries", [1_000, 1_500])
def test_the_counted_bytes_are_those_in_memory(classes: int, entries: int) -> None:
    async def main() -> tuple[int, Cache]:
        cache, model = Cache(2**30), Model()
        before = tracemalloc.get_traced_memory()[0]
        for number in range(entries):
            await cache.one(model.target(), b"%d" % number, work(1, classes))
        return tracemalloc.get_traced_memory()[0] - before, cache

    tracemalloc.start()
    try:
        held, cache = asyncio.run(main())
    finally:
        tracemalloc.stop()

    assert 0.9 < cache.held_bytes / held < 1.35


def test_the_digest_of_a_bundle_is_that_of_its_manifest(torch_bundle_root: Path) -> None:
    text = (torch_bundle_root / "tiny-torch" / "1" / "manifest.json").read_text()
    record = json.loads(text)
    other = record | {"description": "Another."}

    digests = [
        parse_manifest(json.dumps(each, indent=4).encode()).digest
        for each in (record, record, other)
    ]

    assert digests[0] == digests[1] != digests[2]
