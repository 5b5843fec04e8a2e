"""What operators watch, in the text format of Prometheus: counted as it happens, or read from its owner when asked.

`docs/operation.md` lists every metric; a test holds that page to them. The values of a label come from a list that no
client can lengthen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import get_args

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from starlette.types import Scope

from service.cache import Cache
from service.errors import catalogue
from service.models.model import ServedModel, State
from service.models.registry import Registry

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
IMAGES = (1, 2, 4, 8, 16, 32, 64, 128)
STAGES = ("decode", "queue", "inference")
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"}
NO_ROUTE = "none"  # a path that leads nowhere is the client's text, and not for a label
OTHER_METHOD = "other"
MODEL = ["model", "version"]

router = APIRouter()


class Metrics(Collector):
    """The measurements of one application."""

    def __init__(self) -> None:
        self._library = CollectorRegistry()
        self._requests = Counter(
            "http_requests",
            "Requests that were answered.",
            ["method", "route", "status"],
            registry=self._library,
        )
        self._request_s = Histogram(
            "http_request_duration_seconds",
            "Time from the head of a request to the end of its answer.",
            ["method", "route"],
            buckets=SECONDS,
            registry=self._library,
        )
        self._stage_s = Histogram(
            "resnet_stage_duration_seconds",
            "Time of the stages of a request, as in its timing_ms.",
            [*MODEL, "stage"],
            buckets=SECONDS,
            registry=self._library,
        )
        self._problems = Counter(
            "resnet_problems",
            "Problems that were answered, by code.",
            ["code"],
            registry=self._library,
        )
        for code in catalogue():
            self._problems.labels(code)  # they start at 0, so that the first one is an increase
        ProcessCollector(registry=self._library)
        # Children of the metrics above; looking one up by its labels costs more than counting.
        self._of_requests: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._of_stages: dict[tuple[str, int], list[Histogram]] = {}
        self._models: Registry | None = None
        self._cache: Cache | None = None

    def watch(self, models: Registry, cache: Cache | None) -> None:
        """Tell of these from now on."""
        self._models, self._cache = models, cache

    def request(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a request that has been routed and answered."""
        key = scope["method"], getattr(scope.get("route"), "path", NO_ROUTE), status
        children = self._of_requests.get(key)
        if children is None:
            method = key[0] if key[0] in METHODS else OTHER_METHOD
            children = (
                self._requests.labels(method, *key[1:]),
                self._request_s.labels(method, key[1]),
            )
            if method == key[0]:
                self._of_requests[key] = children
        children[0].inc()
        children[1].observe(seconds)

    def stages(self, model: ServedModel, timing_ms: Mapping[str, float]) -> None:
        """Count the stages of a request; an answer that was kept has gone through none."""
        if not timing_ms["inference"]:
            return
        key = model.name, model.version
        children = self._of_stages.get(key)
        if children is None:
            children = self._of_stages[key] = [
                self._stage_s.labels(*key, stage) for stage in STAGES
            ]
        for stage, child in zip(STAGES, children, strict=True):
            child.observe(timing_ms[stage] / 1000)

    def problem(self, code: str) -> None:
        """Count a problem: the answer to a request, or in the place of an image of a batch."""
        self._problems.labels(code).inc()

    def collect(self) -> Iterator[Metric]:
        """Everything there is, for the library to write down."""
        for metric in self._library.collect():
            # When a series began; it would be one more series beside each of them.
            metric.samples = [
                sample for sample in metric.samples if not sample.name.endswith("_created")
            ]
            yield metric
        if self._models is not None:
            yield from _of_models(self._models.all())
        if self._cache is not None:
            yield from _of_cache(self._cache)


def _of_models(models: list[ServedModel]) -> Iterator[Metric]:
    state = GaugeMetricFamily(
        "resnet_model_state", "1 for the state that the model is in.", labels=[*MODEL, "state"]
    )
    info = InfoMetricFamily("resnet_model", "What runs.", labels=MODEL)
    waiting = GaugeMetricFamily(
        "resnet_queue_images", "Images that wait for the model.", labels=MODEL
    )
    batches = HistogramMetricFamily(
        "resnet_batch_images", "Images of a forward pass.", labels=MODEL
    )
    for model in models:
        labels = [model.name, str(model.version)]
        for each in get_args(State):
            state.add_metric([*labels, each], model.state == each)
        if model.info is not None:
            runs = model.info
            info.add_metric(
                labels,
                {
                    "artifact": runs["artifact_id"],
                    "runtime": runs["runtime"],
                    "precision": runs["precision"],
                    "device": runs["device"],
                },
            )
        waiting.add_metric(labels, model.waiting)
        sizes = model.batch_sizes
        below = [sum(count for size, count in sizes.items() if size <= bound) for bound in IMAGES]
        buckets = [
            (str(float(bound)), float(count)) for bound, count in zip(IMAGES, below, strict=True)
        ]
        batches.add_metric(
            labels,
            [*buckets, ("+Inf", float(sizes.total()))],
            sum(size * count for size, count in sizes.items()),
        )
    yield from (state, info, waiting, batches)


def _of_cache(cache: Cache) -> Iterator[Metric]:
    lookups = CounterMetricFamily(
        "resnet_cache_lookups",
        "Images that were looked up among the answers kept.",
        labels=["result"],
    )
    for result, count in cache.lookups.items():
        lookups.add_metric([result], count)
    yield lookups
    yield GaugeMetricFamily("resnet_cache_entries", "Answers that are kept.", len(cache))
    yield GaugeMetricFamily(
        "resnet_cache_bytes", "Memory of the answers that are kept.", cache.held_bytes
    )
    yield GaugeMetricFamily("resnet_cache_max_bytes", "Memory that they may take.", cache.max_bytes)


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    summary="What is measured, for Prometheus",
    tags=["health"],
)
async def metrics(request: Request) -> PlainTextResponse:
    """Requests, stages, models and the cache in the text format of Prometheus; docs/operation.md lists the metrics."""
    return PlainTextResponse(
        generate_latest(request.app.state.metrics), media_type=CONTENT_TYPE_PLAIN_0_0_4
    )
