"""Response bodies from the results of the stages of a request."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from starlette.datastructures import State

from bundle.certainty import doubt, prediction_set
from bundle.format.manifest import Manifest
from bundle.scores import calibrated_softmax, top_k
from bundle.worker.selection import accuracy
from service.classifier import CacheUse
from service.errors import NotReady
from service.models.model import ServedModel, Target
from service.models.queued import Classification

CACHE_NAME = "resnet-service"
# Fields of the manifest that a model's record has unchanged.
COPIED = (
    *("created", "description", "labels", "label_ids", "input", "heatmap", "training", "imported"),
    *("metrics", "calibration", "whole", "export", "artifacts", "files"),
)
# Where there is an admin port, these are for operators.
PROVENANCE = (
    *("training", "imported", "export", "artifacts", "files"),
    *("framework_versions", "runtime_version"),
)


def cache_status(use: CacheUse | None) -> dict[str, str]:
    """The header Cache-Status (RFC 9211); none without a cache."""
    if use is None:
        return {}
    if not use.collapsed and not use.computed:
        parameters = "hit"
    else:
        parameters = "fwd=partial" if use.hits else "fwd=miss"
        if not use.computed:
            parameters += "; collapsed"
        elif use.stored == use.computed:
            parameters += "; stored"
    return {"Cache-Status": f"{CACHE_NAME}; {parameters}"}


def answer(
    manifest: Manifest, classification: Classification, k: int, coverage: float | None = None
) -> dict[str, Any]:
    """The `k` best classes with their scores, and whether they are to be trusted.

    With `coverage`, which is for models with prediction sets, such a set too.
    """
    logits = classification.logits
    scores = calibrated_softmax(logits, manifest.calibration.temperature)
    best = top_k(scores, manifest.labels, k)
    found: dict[str, Any] = {"predictions": best, "uncertain": None, "uncertain_reason": None}
    if manifest.rejection is not None:
        reason = doubt(manifest.rejection, logits, best[0]["score"])
        found |= {"uncertain": reason is not None, "uncertain_reason": reason}
    if coverage is not None and manifest.conformal is not None:
        found["prediction_set"] = prediction_set(
            manifest.conformal, scores, manifest.labels, coverage
        )
    return found


def used(target: Target) -> dict[str, Any]:
    """The model and the artifact that ran."""
    model, manifest, info = target
    return {
        "name": model.name,
        "version": model.version,
        "framework": manifest.framework.name,
        "runtime": info["runtime"],
        "precision": info["precision"],
        "device": info["device"],
    }


def timing(images: Sequence[Classification], started: float) -> dict[str, float]:
    """Milliseconds of each stage; the request `started` at this `time.perf_counter()`."""
    seconds = {
        "decode": max((each.decode_s for each in images), default=0.0),
        "queue": max((each.queue_s for each in images), default=0.0),
        "inference": max((each.inference_s for each in images), default=0.0),
        "total": time.perf_counter() - started,
    }
    return {name: round(value * 1000, 3) for name, value in seconds.items()}


def server_timing(timing_ms: dict[str, float]) -> str:
    """The header Server-Timing (W3C), which browsers show beside the request."""
    return ", ".join(f"{name};dur={value}" for name, value in timing_ms.items())


def summary(model: ServedModel) -> dict[str, Any]:
    """A model in the list of models."""
    manifest, info = model.manifest, model.info
    running = manifest.artifact(info["artifact_id"]) if manifest and info else None
    return {
        "name": model.name,
        "version": model.version,
        "state": model.state,
        "reason": model.reason,
        "update_error": model.update_error,
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


def record(model: ServedModel, *, provenance: bool) -> dict[str, Any]:
    """A model with its whole manifest; null where a refused one could not be read.

    Args:
        model: The model.
        provenance: Whether the record has what the model was made of, and with; otherwise null.
    """
    manifest, info = model.manifest, model.info
    found = {
        **summary(model),
        **{name: getattr(manifest, name, None) for name in COPIED},
        "parameters": manifest.architecture.parameters if manifest else None,
        "framework_versions": manifest.framework.versions if manifest else None,
        "runtime_version": info["runtime_version"] if info else None,
        "golden_max_difference": info["golden_max_difference"] if info else None,
        "isolation": info["isolation"] if info else None,
        "signer": info["signer"] if info else None,
    }
    return found if provenance else found | dict.fromkeys(PROVENANCE)


def check_ready(state: State) -> None:
    """Check that the service is ready.

    Raises:
        NotReady: it is not; without the reason where requests need a key, which probes don't send.
    """
    try:
        state.registry.check_ready()
    except NotReady as exc:
        if state.keys.are_needed:
            raise NotReady(
                "The service is not ready. `GET /models`, with an API key, has the models and why."
            ) from exc
        raise


def ready(state: State) -> dict[str, Any]:
    """The models of a service that is ready, and why some are refused.

    Raises:
        NotReady: as `check_ready`.
    """
    check_ready(state)
    if state.keys.are_needed:
        return {"status": "ready", "models": None, "refused": None}
    models: list[ServedModel] = state.registry.all()
    return {
        "status": "ready",
        "models": [{"name": m.name, "version": m.version, "state": m.state} for m in models],
        "refused": [
            {"name": m.name, "version": m.version, "code": m.code, "reason": m.reason}
            for m in models
            if m.state == "refused"
        ],
    }
