"""Prometheus metrics, counted as events happen or read from their owners at each scrape.

`docs/operation.md` lists every metric; a test holds that page to them. Label values come from fixed
sets: no client can create a time series.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from starlette.types import Scope

from bundle.errors import BUNDLE_ERRORS
from bundle.sandbox import IN_FORCE, MEASURES
from service.cache import Cache
from service.errors import InternalError
from service.models.model import ServedModel, State
from service.repository.registry import Registry

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
IMAGES = (1, 2, 4, 8, 16, 32, 64, 128)
STAGES = ("decode", "queue", "inference")
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"}
# An unknown path is chosen by the client, so it may not become a label.
NO_ROUTE = "none"
OTHER_METHOD = "other"
MODEL = ["model", "version"]


class Metrics(Collector):
    """The metrics of one application; `codes` are those of its problems."""

    def __init__(self, codes: Iterable[str]) -> None:
        self._library = CollectorRegistry()
        self._requests = Counter(
            "http_requests",
            "Responses sent.",
            ["method", "route", "status"],
            registry=self._library,
        )
        self._request_s = Histogram(
            "http_request_duration_seconds",
            "Time from the head of a request to the end of its response.",
            ["method", "route"],
            buckets=SECONDS,
            registry=self._library,
        )
        self._stage_s = Histogram(
            "resnet_stage_duration_seconds",
            "Time of each stage of a request, as in its timing_ms.",
            [*MODEL, "stage"],
            buckets=SECONDS,
            registry=self._library,
        )
        self._problems = Counter(
            "resnet_problems",
            "Problems in responses, by code.",
            ["code"],
            registry=self._library,
        )
        for code in codes:
            # From 0, so that the first one is an increase.
            self._problems.labels(code)
        ProcessCollector(registry=self._library)
        # Children by labels: looking one up in the library costs more than counting.
        self._of_requests: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._of_stages: dict[tuple[str, int], list[Histogram]] = {}
        self._models: Registry | None = None
        self._cache: Cache | None = None

    def watch(self, models: Registry, cache: Cache | None) -> None:
        """Report these models and this cache from now on."""
        self._models, self._cache = models, cache

    def request(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a request after its response."""
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
        """Count the stages of a request; a cached result went through none."""
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

    def stage_totals(self, model: ServedModel) -> dict[str, tuple[float, float]]:
        """Number of requests and seconds of each stage so far."""
        found: dict[str, dict[str, float]] = {}
        for metric in self._stage_s.collect():
            for sample in metric.samples:
                labels = sample.labels
                if (labels["model"], labels["version"]) == (model.name, str(model.version)):
                    what = sample.name.rpartition("_")[2]
                    found.setdefault(labels["stage"], {})[what] = sample.value
        return {stage: (values["count"], values["sum"]) for stage, values in found.items()}

    def problem(self, code: str) -> None:
        """Count a problem: a response, or one image of a batch."""
        self._problems.labels(code).inc()

    def collect(self) -> Iterator[Metric]:
        """All metrics, for the client library."""
        for metric in self._library.collect():
            # Creation times would double the number of series.
            metric.samples = [
                sample for sample in metric.samples if not sample.name.endswith("_created")
            ]
            yield metric
        if self._models is not None:
            yield from _of_models(self._models.all())
            refusals = CounterMetricFamily(
                "resnet_model_refusals", "Bundles refused, by code.", labels=["code"]
            )
            for code in (*BUNDLE_ERRORS, InternalError.code):
                refusals.add_metric([code], self._models.refusals[code])
            yield refusals
        if self._cache is not None:
            yield from _of_cache(self._cache)


def _of_models(models: list[ServedModel]) -> Iterator[Metric]:
    state = GaugeMetricFamily(
        "resnet_model_state", "1 for the current state of the model.", labels=[*MODEL, "state"]
    )
    info = InfoMetricFamily("resnet_model", "The artifact that runs.", labels=MODEL)
    isolation = GaugeMetricFamily(
        "resnet_model_isolation",
        "1 where the measure confines the process of the model.",
        labels=[*MODEL, "measure"],
    )
    waiting = GaugeMetricFamily("resnet_queue_images", "Images in the queue.", labels=MODEL)
    batches = HistogramMetricFamily("resnet_batch_images", "Images per forward pass.", labels=MODEL)
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
            for measure in MEASURES:
                held = runs["isolation"].get(measure) == IN_FORCE
                isolation.add_metric([*labels, measure], held)
        waiting.add_metric(labels, len(model.queue))
        sizes = model.queue.batch_sizes
        below = [sum(count for size, count in sizes.items() if size <= bound) for bound in IMAGES]
        buckets = [
            (str(float(bound)), float(count)) for bound, count in zip(IMAGES, below, strict=True)
        ]
        batches.add_metric(
            labels,
            [*buckets, ("+Inf", float(sizes.total()))],
            sum(size * count for size, count in sizes.items()),
        )
    yield from (state, info, isolation, waiting, batches)


def _of_cache(cache: Cache) -> Iterator[Metric]:
    lookups = CounterMetricFamily(
        "resnet_cache_lookups", "Cache lookups, one per image.", labels=["result"]
    )
    for result, count in cache.lookups.items():
        lookups.add_metric([result], count)
    yield lookups
    yield GaugeMetricFamily("resnet_cache_entries", "Cached images.", len(cache))
    yield GaugeMetricFamily("resnet_cache_bytes", "Memory of the cache.", cache.held_bytes)
    yield GaugeMetricFamily("resnet_cache_max_bytes", "Memory limit.", cache.max_bytes)
