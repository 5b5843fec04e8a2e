"""What the answers of the API hold, put together from what the stages of a request have found."""

from __future__ import annotations

import time
from typing import Any

from bundle.format.manifest import Manifest
from bundle.scores import calibrated_softmax, top_k
from bundle.worker.selection import accuracy
from service.models.batcher import InferenceResult
from service.models.model import ServedModel


def predictions(manifest: Manifest, answer: InferenceResult, k: int) -> list[Any]:
    """The `k` best classes with their scores."""
    scores = calibrated_softmax(answer.logits[None], manifest.calibration.temperature)[0]
    return list(top_k(scores, manifest.labels, k))


def used(model: ServedModel, manifest: Manifest) -> dict[str, Any]:
    """Which model has answered, and what ran."""
    info = model.info
    assert info is not None  # noqa: S101 - it has answered
    return {
        "name": model.name,
        "version": model.version,
        "framework": manifest.framework.name,
        "runtime": info["runtime"],
        "precision": info["precision"],
        "device": info["device"],
    }


def timing(decode_s: float, answers: list[InferenceResult], started: float) -> dict[str, float]:
    """Milliseconds of each stage; `started` is the `time.perf_counter` at which the request came."""
    seconds = {
        "decode": decode_s,
        "queue": max((answer.queue_s for answer in answers), default=0.0),
        "inference": max((answer.inference_s for answer in answers), default=0.0),
        "total": time.perf_counter() - started,
    }
    return {name: round(value * 1000, 3) for name, value in seconds.items()}


def summary(model: ServedModel) -> dict[str, Any]:
    """A model in the list of models."""
    manifest, info = model.manifest, model.info
    running = manifest.artifact(info["artifact_id"]) if manifest and info else None
    return {
        "name": model.name,
        "version": model.version,
        "state": model.state,
        "reason": model.reason,
        "framework": manifest.framework.name if manifest else None,
        "architecture": manifest.architecture.name if manifest else None,
        "classes": len(manifest.labels) if manifest else None,
        "accuracy": accuracy(manifest, running or manifest.source) if manifest else None,
        "runtime": info["runtime"] if info else None,
        "precision": info["precision"] if info else None,
        "device": info["device"] if info else None,
        "artifact": info["artifact_id"] if info else None,
        "choice": info["choice"] if info else None,
    }
