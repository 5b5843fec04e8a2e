"""Metrics that are read from their owners at each scrape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import get_args

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from bundle.errors import BUNDLE_ERRORS
from bundle.format.baseline import SCORE_BOUNDS
from bundle.sandbox import IN_FORCE, MEASURES
from bundle.worker.process import Reason
from service.access.keys import Keys
from service.cache import Cache
from service.decoding.pool import Decoder
from service.errors import InternalError
from service.models.model import ServedModel, State

IMAGES = (1, 2, 4, 8, 16, 32, 64, 128)
MODEL = ["model", "version"]
# All from 0, so that the first one is an increase.
REASONS: tuple[Reason, ...] = get_args(Reason)


def of_models(models: list[ServedModel]) -> Iterator[Metric]:
    """State, artifact, queue, batches and restarts of each model."""
    state = GaugeMetricFamily(
        "resnet_model_state", "1 for the current state of the model.", labels=[*MODEL, "state"]
    )
    info = InfoMetricFamily("resnet_model", "The artifact that runs.", labels=MODEL)
    waiting = GaugeMetricFamily("resnet_queue_images", "Images in the queue.", labels=MODEL)
    most = GaugeMetricFamily("resnet_queue_max_images", "Limit of the queue.", labels=MODEL)
    batches = HistogramMetricFamily("resnet_batch_images", "Images per forward pass.", labels=MODEL)
    restarts = CounterMetricFamily(
        "resnet_worker_restarts",
        "Processes of a model that another one replaced.",
        labels=[*MODEL, "reason"],
    )
    isolation = GaugeMetricFamily(
        "resnet_model_isolation",
        "1 where the measure confines the process of the model.",
        labels=[*MODEL, "measure"],
    )
    for model in models:
        labels = [model.name, str(model.version)]
        for reason in REASONS:
            restarts.add_metric([*labels, reason], model.restarts[reason])
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
        most.add_metric(labels, model.settings.queue_size)
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
    yield from (state, info, isolation, waiting, most, batches, restarts)


def of_predictions(
    models: list[ServedModel], seen: Mapping[tuple[str, int], Counter[int]], max_classes: int
) -> Iterator[Metric]:
    """What models predict, class by class, and what they predicted on validation images.

    Args:
        models: that are loaded.
        seen: how often each class was predicted, by name and version.
        max_classes: models of more classes have no counts by class.
    """
    predicted = CounterMetricFamily(
        "resnet_predicted_class", "Images by their best class.", labels=[*MODEL, "class"]
    )
    scores = GaugeMetricFamily(
        "resnet_baseline_score_ratio",
        "Share of validation images with a best score up to this.",
        labels=[*MODEL, "le"],
    )
    classes = GaugeMetricFamily(
        "resnet_baseline_class_ratio",
        "Share of validation images with this best class.",
        labels=[*MODEL, "class"],
    )
    for model in models:
        manifest = model.manifest
        if manifest is None:
            continue
        labels = [model.name, str(model.version)]
        baseline = manifest.baseline
        if baseline is not None:
            below = accumulate(baseline.scores)
            for bound, count in zip(SCORE_BOUNDS, below, strict=True):
                scores.add_metric([*labels, str(bound)], count / baseline.samples)
        if len(manifest.labels) > max_classes:
            continue
        counts = seen.get((model.name, model.version), Counter())
        for index, label in enumerate(manifest.labels):
            predicted.add_metric([*labels, label], counts.get(index, 0))
            if baseline is not None:
                classes.add_metric([*labels, label], baseline.classes[index] / baseline.samples)
    yield from (predicted, scores, classes)


def of_decoder(decoder: Decoder) -> Metric:
    """Its restarts."""
    restarts = CounterMetricFamily(
        "resnet_decoder_restarts", "Decoders that another one replaced.", labels=["reason"]
    )
    for reason in REASONS:
        restarts.add_metric([reason], decoder.restarts[reason])
    return restarts


def of_cache(cache: Cache) -> Iterator[Metric]:
    """Lookups and memory."""
    lookups = CounterMetricFamily(
        "resnet_cache_lookups", "Cache lookups, one per image.", labels=["result"]
    )
    for result, count in cache.lookups.items():
        lookups.add_metric([result], count)
    yield lookups
    yield GaugeMetricFamily("resnet_cache_entries", "Cached images.", len(cache))
    yield GaugeMetricFamily("resnet_cache_bytes", "Memory of the cache.", cache.held_bytes)
    yield GaugeMetricFamily("resnet_cache_max_bytes", "Memory limit.", cache.max_bytes)


def of_keys(keys: Keys) -> Iterator[Metric]:
    """What the clients with API keys have sent, and whether the file of the keys is right."""
    requests = CounterMetricFamily(
        "resnet_key_requests", "Requests with an API key.", labels=["key", "outcome"]
    )
    size = CounterMetricFamily("resnet_key_bytes", "Bytes of their bodies.", labels=["key"])
    for name, key in keys.clients.items():
        for outcome, count in key.outcomes.items():
            requests.add_metric([name, outcome], count)
        size.add_metric([name], key.bytes)
    yield from (requests, size)
    yield GaugeMetricFamily(
        "resnet_key_file_error",
        "1: the file of API keys is wrong, and what it said before applies.",
        keys.error is not None,
    )


def of_certificate(expires: float) -> Metric:
    """When the certificate that is served ends, in seconds since 1970."""
    return GaugeMetricFamily(
        "resnet_tls_certificate_expiry_timestamp_seconds",
        "When the certificate that is served ends, in seconds since 1970.",
        expires,
    )


def of_refusals(refusals: Counter[str]) -> Metric:
    """How many bundles have been refused, by code."""
    found = CounterMetricFamily(
        "resnet_model_refusals", "Bundles refused, by code.", labels=["code"]
    )
    for code in (*BUNDLE_ERRORS, InternalError.code):
        found.add_metric([code], refusals[code])
    return found
