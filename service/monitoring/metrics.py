"""Prometheus metrics, counted as events happen or read from their owners at each scrape.

`docs/operation.md` lists every metric; a test holds that page to them. Label values come from fixed
sets: no client can create a time series.
"""

from __future__ import annotations

import time
from collections import Counter as Counts
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from bundle.format.baseline import SCORE_BOUNDS
from service.access.keys import Keys
from service.cache import Cache
from service.decoding.pool import Decoder
from service.models.model import ServedModel
from service.models.queued import Classification
from service.monitoring.scrape import (
    MODEL,
    of_cache,
    of_certificate,
    of_decoder,
    of_keys,
    of_models,
    of_predictions,
    of_refusals,
)
from service.repository.registry import Registry

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
STAGES = ("decode", "queue", "inference")
# Of HTTP, and the calls of gRPC.
GRPC = "GRPC"
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", GRPC}
# An unknown path is chosen by the client, so it may not become a label.
NO_ROUTE = "none"
OTHER_METHOD = "other"
OPENMETRICS = "application/openmetrics-text"


class Metrics(Collector):
    """The metrics of one application.

    Args:
        codes: of its problems.
        keys: its clients.
        max_classes: predictions are counted by class for models of this many classes at most.
    """

    def __init__(
        self, codes: Iterable[str], keys: Keys | None = None, max_classes: int = 0
    ) -> None:
        self._keys = keys
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
        self._scores = Histogram(
            "resnet_top1_score",
            "Scores of the best class of each image.",
            MODEL,
            buckets=SCORE_BOUNDS,
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
        # For each image of a model the score and the index of its best class.
        self._of_scores: dict[tuple[str, int], tuple[Histogram, Counts[int]]] = {}
        self._max_classes = max_classes
        # Once somebody asks for them.
        self._exemplars = False
        self._models: Registry | None = None
        self._decoder: Decoder | None = None
        self._cache: Cache | None = None
        # When the certificate that is served ends, in seconds since 1970; None: HTTP.
        self.certificate_expires: Callable[[], float] | None = None

    def watch(self, models: Registry, decoder: Decoder, cache: Cache | None) -> None:
        """Report these owners of metrics from now on."""
        self._models, self._decoder, self._cache = models, decoder, cache

    def request(
        self, method: str, route: str, status: int, seconds: float, known: Mapping[str, Any]
    ) -> None:
        """Count a request after its response.

        Args:
            method: GRPC for a call.
            route: one of the application's, or `none`.
            status: of the response.
            seconds: from the head of the request to the end of its response.
            known: its `request_id` and `trace_id`, for exemplars.
        """
        key = method, route, status
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
        children[1].observe(seconds, _exemplar(known) if self._exemplars else None)

    def answered(
        self,
        known: dict[str, Any],
        model: ServedModel,
        found: Sequence[Classification],
        timing_ms: Mapping[str, float],
        best: Iterable[tuple[float, int]],
    ) -> None:
        """Count what was predicted for a request, and its stages; leave them for log and trace.

        Args:
            known: of the request, for its log line and its trace.
            model: that has predicted.
            found: its results.
            timing_ms: of each stage.
            best: score and index of the best class of each result.
        """
        known["timing_ms"], known["answered_at"] = timing_ms, time.perf_counter()
        known["by_decoder"] = any(each.by_decoder for each in found)
        key = model.name, model.version
        counts = self._of_scores.get(key)
        if counts is None:
            counts = self._of_scores[key] = self._scores.labels(*key), Counts()
        for score, index in best:
            counts[0].observe(score)
            counts[1][index] += 1
        # A cached result went through none.
        if not timing_ms["inference"]:
            return
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

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """All metrics and their content type: OpenMetrics if `accept` has it, else Prometheus's.

        Only OpenMetrics has exemplars, so they are kept from the first such scrape on.
        """
        if OPENMETRICS in accept:
            self._exemplars = True
            text = openmetrics.generate_latest(self)  # type: ignore[no-untyped-call]
            return text, openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(self), CONTENT_TYPE_PLAIN_0_0_4

    def collect(self) -> Iterator[Metric]:
        """All metrics, for the client library."""
        for metric in self._library.collect():
            # Creation times would double the number of series.
            metric.samples = [
                sample for sample in metric.samples if not sample.name.endswith("_created")
            ]
            yield metric
        if self._keys is not None:
            yield from of_keys(self._keys)
        if self._models is not None:
            models = self._models.all()
            yield from of_models(models)
            yield of_refusals(self._models.refusals)
            seen = {key: classes for key, (_, classes) in self._of_scores.items()}
            yield from of_predictions(models, seen, self._max_classes)
        if self._decoder is not None:
            yield of_decoder(self._decoder)
        if self._cache is not None:
            yield from of_cache(self._cache)
        if self.certificate_expires is not None:
            yield of_certificate(self.certificate_expires())


def _exemplar(known: Mapping[str, Any]) -> dict[str, str]:
    """Which request it was, in at most 128 characters as OpenMetrics demands."""
    return {name: known[name] for name in ("request_id", "trace_id") if known.get(name)}
