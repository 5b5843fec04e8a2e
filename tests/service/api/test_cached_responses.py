"""Cached responses over a real socket."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.service.api.test_problems import assert_problem
from tests.service.conftest import Server
from tests.service.images import coloured, encode, varied
from tests.service.models.disturb import ask_and_stay, edit_manifest, paused

HIT = "resnet-service; hit"
STORED = "resnet-service; fwd=miss; stored"


def status(response: httpx.Response) -> str | None:
    header: str | None = response.headers.get("cache-status")
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

    responses = [caching_server.predict(data) for _ in range(2)]

    assert len(data) > 1_000_000
    assert [status(response) for response in responses] == [STORED, HIT]


def test_failures_are_not_cached(caching_server: Server) -> None:
    data = encode(varied(seed=103), "JPEG")[:-200]

    for response in (caching_server.predict(data), caching_server.predict(data)):
        assert_problem(response, 422, "unreadable_image")
        assert status(response) is None


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
    answer = {"filename", "predictions", "uncertain", "uncertain_reason", "image", "seen"}
    assert [set(result) for result in with_a_bad_one.json()["results"]] == [
        answer,
        {"filename", "error"},
        answer,
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
        response = staying.result()

    assert response.status_code == 200
    assert status(response) == "resnet-service; fwd=miss; collapsed"
    timing = response.json()["timing_ms"]
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
    responses = [server.predict(coloured()), server.predict(coloured()), batch(server, coloured())]

    assert [status(response) for response in responses] == [None, None, None]


def test_the_description_of_the_api_has_the_header(server: Server) -> None:
    paths = server.client.get("/openapi.json").json()["paths"]

    for path in ("/predict", "/predict/batch"):
        documented = paths[path]["post"]["responses"]["200"]
        assert "Cache-Status" in documented["headers"]
        assert "application/json" in documented["content"]
