"""GET /metrics over a real socket: what Prometheus scrapes after what clients did."""

from __future__ import annotations

import asyncio
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families

import service
from service.app import create_app
from service.monitoring.metrics import NO_ROUTE, OPENMETRICS, Metrics
from service.settings import Settings
from tests.service.conftest import Server
from tests.service.images import coloured, encode, varied
from tests.service.models.disturb import paused

DOCS = Path(service.__file__).parent.parent / "docs" / "operation.md"
# Of a service with a certificate: tests/service/network/test_tls.py.
OF_HTTPS = "resnet_tls_certificate_expiry_timestamp_seconds"
MODEL = {"model": "tiny-torch", "version": "1"}


class Scrape:
    """The samples of one response."""

    def __init__(self, response: httpx.Response) -> None:
        assert response.status_code == 200, response.text
        self.families = list(text_string_to_metric_families(response.text))
        self.samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float:
        return self.samples.get((name, frozenset(labels.items())), 0.0)

    def values(self, label: str) -> set[str]:
        return {value for _, labels in self.samples for name, value in labels if name == label}


def scrape(server: Server) -> Scrape:
    return Scrape(server.client.get("/metrics"))


def test_the_format_is_the_prometheus_text_format(caching_server: Server) -> None:
    response = caching_server.client.get("/metrics")

    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = Scrape(response).families
    assert all(family.documentation and family.type != "unknown" for family in families)
    assert "_created" not in response.text
    described = caching_server.client.get("/openapi.json").json()["paths"]["/metrics"]["get"]
    assert set(described["responses"]["200"]["content"]) == {"text/plain", OPENMETRICS}


def test_openmetrics_has_the_latest_request_of_each_bucket(caching_server: Server) -> None:
    accept = f"{OPENMETRICS};version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5"
    client = caching_server.client
    client.get("/metrics", headers={"Accept": accept})  # the first one asks for them
    client.get("/models", headers={"X-Request-Id": "the-latest"})

    response = client.get("/metrics", headers={"Accept": accept})

    kind = "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert response.headers["content-type"] == kind
    parsed = parse_openmetrics(response.text)  # type: ignore[no-untyped-call]
    families = {each.name: each for each in parsed}
    exemplars = [
        sample.exemplar
        for sample in families["http_request_duration_seconds"].samples
        if sample.labels["route"] == "/models" and sample.exemplar
    ]
    assert {"request_id": "the-latest"} in [each.labels for each in exemplars]
    text = {each.name for each in scrape(caching_server).families}
    assert {
        name + "_info" if each.type == "info" else name for name, each in families.items()
    } == text


@pytest.mark.parametrize("accept", ["", "*/*", "text/plain;version=x", "application/json"])
def test_any_other_scraper_gets_text(caching_server: Server, accept: str) -> None:
    response = caching_server.client.get("/metrics", headers={"Accept": accept})

    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "request_id" not in response.text


def test_the_page_of_operation_lists_exactly_the_metrics_that_exist(caching_server: Server) -> None:
    caching_server.predict(coloured())
    rows = set(re.findall(r"^\| `((?:http|resnet)_\w+)` \|", DOCS.read_text(), flags=re.MULTILINE))

    text = caching_server.client.get("/metrics").text

    assert rows - {OF_HTTPS} == set(
        re.findall(r"^# TYPE ((?:http|resnet)_\w+) ", text, flags=re.MULTILINE)
    )


def test_requests_are_counted_by_route_method_and_status(caching_server: Server) -> None:
    client, before = caching_server.client, scrape(caching_server)

    caching_server.predict(encode(varied(seed=200)))
    caching_server.predict(b"no image")
    client.get("/models/tiny-torch")
    client.get("/models/another")
    client.get("/predict")
    client.get("/secret-of-a-client")
    client.request("PROPFIND", "/secret-of-a-client")

    after = scrape(caching_server)
    for method, route, status in [
        ("POST", "/predict", 200),
        ("POST", "/predict", 415),
        ("GET", "/models/{name}", 200),
        ("GET", "/models/{name}", 404),
        ("GET", "/predict", 405),
        ("GET", "none", 404),
        ("other", "none", 404),
    ]:
        labels = {"method": method, "route": route, "status": str(status)}
        total = "http_requests_total"
        assert after(total, **labels) - before(total, **labels) == 1, labels
    name, labels = "http_request_duration_seconds", {"method": "POST", "route": "/predict"}
    assert after(f"{name}_count", **labels) - before(f"{name}_count", **labels) == 2
    assert after(f"{name}_sum", **labels) > before(f"{name}_sum", **labels)
    assert not [value for value in after.values("route") if "secret" in value or "another" in value]


def test_stages_are_not_counted_for_cached_results(caching_server: Server) -> None:
    data, before = encode(varied(seed=201)), scrape(caching_server)

    timing = caching_server.predict(data).json()["timing_ms"]
    assert caching_server.predict(data).headers["cache-status"] == "resnet-service; hit"

    after, name = scrape(caching_server), "resnet_stage_duration_seconds"
    for stage in ("decode", "queue", "inference"):
        labels = {**MODEL, "stage": stage}
        assert after(f"{name}_count", **labels) - before(f"{name}_count", **labels) == 1
        spent = after(f"{name}_sum", **labels) - before(f"{name}_sum", **labels)
        assert spent == pytest.approx(timing[stage] / 1000)


def test_forward_passes_are_counted_by_their_images(caching_server: Server) -> None:
    files = [("files", ("a", encode(varied(seed=seed)))) for seed in (202, 203, 204)]
    before = scrape(caching_server)

    caching_server.client.post("/predict/batch", files=files)

    after, name = scrape(caching_server), "resnet_batch_images"
    assert after(f"{name}_sum", **MODEL) - before(f"{name}_sum", **MODEL) == 3
    assert after(f"{name}_count", **MODEL) - before(f"{name}_count", **MODEL) == 1
    assert after(f"{name}_bucket", **MODEL, le="2.0") == before(f"{name}_bucket", **MODEL, le="2.0")
    assert (
        after(f"{name}_bucket", **MODEL, le="4.0")
        == before(f"{name}_bucket", **MODEL, le="4.0") + 1
    )
    assert after(f"{name}_bucket", **MODEL, le="+Inf") == after(f"{name}_count", **MODEL)


def test_models_report_their_state_and_artifact(caching_server: Server) -> None:
    now = scrape(caching_server)

    states = {
        state: now("resnet_model_state", **MODEL, state=state)
        for state in ("loading", "ready", "restarting", "refused")
    }
    assert states == {"loading": 0, "ready": 1, "restarting": 0, "refused": 0}
    (listed,) = caching_server.client.get("/models").json()["models"]
    running = {name: listed[name] for name in ("artifact", "runtime", "precision", "device")}
    assert now("resnet_model_info", **MODEL, **running) == 1
    assert now("process_resident_memory_bytes") > 1e7


def test_queued_images_are_reported(caching_server: Server) -> None:
    def sample(name: str) -> float:
        return scrape(caching_server)(name, **MODEL)

    passes = sample("resnet_batch_images_count")
    with ThreadPoolExecutor(2) as pool:
        with paused(caching_server):
            first = pool.submit(caching_server.predict, encode(varied(seed=205)))
            caching_server.wait(
                lambda: sample("resnet_batch_images_count") > passes, "in the process"
            )
            second = pool.submit(caching_server.predict, encode(varied(seed=206)))
            caching_server.wait(lambda: sample("resnet_queue_images") == 1, "queued")
        assert [each.result().status_code for each in (first, second)] == [200, 200]

    assert sample("resnet_queue_images") == 0


def test_the_cache_reports_its_lookups_and_memory(caching_server: Server) -> None:
    data, before = encode(varied(seed=208)), scrape(caching_server)

    for _ in range(3):
        caching_server.predict(data)

    after, name = scrape(caching_server), "resnet_cache_lookups_total"
    assert after(name, result="miss") - before(name, result="miss") == 1
    assert after(name, result="hit") - before(name, result="hit") == 2
    assert after("resnet_cache_entries") - before("resnet_cache_entries") == 1
    assert (
        before("resnet_cache_bytes")
        < after("resnet_cache_bytes")
        <= after("resnet_cache_max_bytes")
    )
    assert after("resnet_cache_max_bytes") == 2**20


def test_without_a_cache_there_are_no_cache_metrics(server: Server) -> None:
    assert "resnet_cache" not in server.client.get("/metrics").text


def test_problems_are_counted_on_every_path(caching_server: Server) -> None:
    before = scrape(caching_server)

    caching_server.predict(encode(varied(), "JPEG")[:-200])
    files = [("files", ("a", b"no image")), ("files", ("b", coloured()))]
    caching_server.client.post("/predict/batch", files=files)
    caching_server.client.get("/nowhere")
    caching_server.client.get("/predict")
    caching_server.predict(coloured(), top_k=0)
    with socket.create_connection(("127.0.0.1", caching_server.port)) as connection:
        connection.sendall(b"no HTTP at all\r\n\r\n")
        assert b"malformed_request" in connection.recv(10_000)

    after, name = scrape(caching_server), "resnet_problems_total"
    counted = {
        code: after(name, code=code) - before(name, code=code) for code in after.values("code")
    }
    assert {code: count for code, count in counted.items() if count} == {
        "unreadable_image": 1,
        "unsupported_image_type": 1,
        "not_found": 1,
        "method_not_allowed": 1,
        "invalid_parameter": 1,
        "malformed_request": 1,
    }
    assert before(name, code="queue_full") == 0
    assert "queue_full" in before.values("code"), "0 before the first one, not absent"


def test_each_application_has_its_own_counts_crashes_included(tmp_path: Path) -> None:
    apps = [create_app(Settings(models_dir=tmp_path)) for _ in range(2)]

    @apps[0].get("/crash")
    def crash() -> None:
        raise RuntimeError

    async def scrapes() -> list[Scrape]:
        found = []
        for app in apps:
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                await client.get("/crash")
                found.append(Scrape(await client.get("/metrics")))
        return found

    one, other = asyncio.run(scrapes())

    assert one("resnet_problems_total", code="internal_error") == 1
    assert one("http_requests_total", method="GET", route="/crash", status="500") == 1
    assert other("resnet_problems_total", code="internal_error") == 0
    assert other("http_requests_total", method="GET", route="none", status="404") == 1


def test_clients_cannot_create_series() -> None:
    metrics = Metrics(["queue_full"])

    for number in range(100):
        metrics.request(f"METHOD{number}", NO_ROUTE, 404, 0.01, {})

    (family,) = [each for each in metrics.collect() if each.name == "http_requests"]
    assert [(sample.labels, sample.value) for sample in family.samples] == [
        ({"method": "other", "route": "none", "status": "404"}, 100)
    ]
