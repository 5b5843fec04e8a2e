"""The routes: from request to response, by way of upload and classifier."""

from __future__ import annotations

import time
from collections.abc import Coroutine
from contextlib import nullcontext
from operator import attrgetter
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse, RedirectResponse
from starlette.datastructures import State

from bundle.errors import BundleError
from bundle.imaging.geometry import seen
from service.api import responses, schemas
from service.api.disconnect import unless_gone
from service.api.headers import HEADER, PARAMETER, requested_timeout, within
from service.api.openapi import BATCH_BODY, IMAGE_BODY, SUCCESS, problems
from service.api.parameters import (
    KNOWN_PARAMETERS,
    CoverageQuery,
    CropQuery,
    NameQuery,
    TopKQuery,
    Version,
    VersionQuery,
    check_coverage,
)
from service.api.problems import problem, request_id
from service.api.quick_route import QuickRoute
from service.api.uploads import read_image, read_images
from service.classifier import Outcomes
from service.errors import (
    InternalError,
    InvalidParameter,
    ModelRefused,
    ModelUnavailable,
    NoWholePicture,
)
from service.models.model import ServedModel, Target
from service.models.queued import Classification
from service.monitoring.metrics import OPENMETRICS

DEFAULT_TOP_K = 5
WHOLE = "whole"
NO_DEADLINE = nullcontext()

# Of a batch without a result; other failures belong to one image.
OF_THE_MODEL = (ModelUnavailable, ModelRefused, InternalError, BundleError)

# Clients are generated from the description: their functions are named as those here.
router = APIRouter(route_class=QuickRoute, generate_unique_id_function=attrgetter("name"))
PREDICT: dict[str, Any] = {
    "responses": SUCCESS | problems(400, 401, 404, 408, 413, 415, 422, 429, 503, 504),
    "dependencies": KNOWN_PARAMETERS,
    "tags": ["predict"],
    # `prediction_set` is absent where nobody has asked for it.
    "response_model_exclude_unset": True,
}


@router.post(
    "/predict",
    response_model=schemas.PredictResponse,
    openapi_extra={"requestBody": IMAGE_BODY, "parameters": [PARAMETER]},
    summary="Classify one image",
    **PREDICT,
)
async def predict(
    request: Request,
    response: Response,
    name: NameQuery = None,
    version: VersionQuery = None,
    top_k: TopKQuery = None,
    coverage: CoverageQuery = None,
    crop: CropQuery = None,
) -> dict[str, Any]:
    """Send the image as the form field `file`, as the raw body, or as JSON in base64."""
    started = time.perf_counter()
    state: State = request.app.state
    timeout_s = requested_timeout(request) if HEADER in request.headers else None
    target, k = _target(request, name, version, top_k, coverage, crop, timeout_s)
    geometry = target.manifest.whole_input if crop == WHOLE else target.manifest.input
    async with within(timeout_s) if timeout_s else NO_DEADLINE:
        with target, state.budget.reserve() as reservation:
            upload = await read_image(request, reservation, state.settings.max_image_bytes)
            outcomes = await unless_gone(request, _run(state, target, [upload.data], crop))
    response.headers.update(responses.cache_status(outcomes.cache))
    (outcome,) = outcomes.images
    if not isinstance(outcome, Classification):
        raise outcome
    info = outcome.info
    assert info is not None  # noqa: S101 - it was a file
    part = seen(info, geometry)
    answer = responses.answer(target.manifest, outcome, k, coverage)
    timing_ms = responses.timing([outcome], started)
    response.headers["Server-Timing"] = responses.server_timing(timing_ms)
    result = {
        **answer,
        "model": responses.used(target),
        "image": info,
        "seen": part,
        "timing_ms": timing_ms,
        "request_id": request_id(request),
    }
    first = answer["predictions"][0]
    best = first["score"], first["index"]
    state.metrics.answered(request.scope["state"], target.model, [outcome], timing_ms, [best])
    return result


@router.post(
    "/predict/batch",
    response_model=schemas.BatchResponse,
    openapi_extra={"requestBody": BATCH_BODY, "parameters": [PARAMETER]},
    summary="Classify several images",
    **PREDICT,
)
async def predict_batch(
    request: Request,
    response: Response,
    name: NameQuery = None,
    version: VersionQuery = None,
    top_k: TopKQuery = None,
    coverage: CoverageQuery = None,
    crop: CropQuery = None,
) -> dict[str, Any]:
    """Send each image as a form field `files`. A bad image gets an error in its place."""
    started = time.perf_counter()
    state: State = request.app.state
    timeout_s = requested_timeout(request) if HEADER in request.headers else None
    target, k = _target(request, name, version, top_k, coverage, crop, timeout_s)
    geometry = target.manifest.whole_input if crop == WHOLE else target.manifest.input
    async with within(timeout_s) if timeout_s else NO_DEADLINE:
        with target, state.budget.reserve() as reservation:
            uploads = await read_images(
                request,
                reservation,
                state.settings.max_request_bytes,
                target.model.settings.batch_files,
            )
            images = [upload.data for upload in uploads]
            outcomes = await unless_gone(request, _run(state, target, images, crop))
    response.headers.update(responses.cache_status(outcomes.cache))
    found = [each for each in outcomes.images if isinstance(each, Classification)]
    if not found and (failed := [e for e in outcomes.images if isinstance(e, OF_THE_MODEL)]):
        raise failed[0]
    timing_ms = responses.timing(found, started)
    response.headers["Server-Timing"] = responses.server_timing(timing_ms)
    identity = request_id(request)
    results: list[dict[str, Any]] = []
    best = []
    for upload, outcome in zip(uploads, outcomes.images, strict=True):
        if isinstance(outcome, Classification):
            result: dict[str, Any] = responses.answer(target.manifest, outcome, k, coverage)
            first = result["predictions"][0]
            best.append((first["score"], first["index"]))
            assert outcome.info is not None  # noqa: S101 - it was a file
            result["image"] = outcome.info
            result["seen"] = seen(outcome.info, geometry)
        else:
            state.metrics.problem(outcome.code)
            result = {"error": problem(outcome, identity)}
        results.append({"filename": upload.filename, **result})
    state.metrics.answered(request.scope["state"], target.model, found, timing_ms, best)
    return {
        "results": results,
        "model": responses.used(target),
        "timing_ms": timing_ms,
        "request_id": identity,
    }


@router.get("/", include_in_schema=False)
async def root(request: Request) -> RedirectResponse:
    """Lead people to the documentation."""
    return RedirectResponse(f"{request.scope.get('root_path', '')}/docs")


@router.get(
    "/healthz", response_model=schemas.Alive, summary="Is the process alive?", tags=["health"]
)
async def healthz() -> dict[str, str]:
    """200 as long as the process responds; independent of the models."""
    return {"status": "alive"}


@router.get(
    "/readyz",
    response_model=schemas.Ready,
    responses=problems(503),
    summary="Is the service ready for requests?",
    tags=["health"],
)
async def readyz(request: Request) -> dict[str, Any]:
    """200 once every model is ready or refused, and the default one is ready."""
    return responses.ready(request.app.state)


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={200: {"content": {OPENMETRICS: {"schema": {"type": "string"}}}}},
    summary="Metrics for Prometheus",
    tags=["health"],
)
async def metrics(request: Request) -> PlainTextResponse:
    """As text, or as OpenMetrics if `Accept` has it; docs/operation.md lists the metrics."""
    text, kind = request.app.state.metrics.exposition(request.headers.get("accept", ""))
    return PlainTextResponse(text, media_type=kind)


def session(request: Request) -> str | None:
    """The session of a request, if a model has traffic that depends on it."""
    state: State = request.app.state
    return request.headers.get(state.settings.session_header) if state.registry.traffic else None


def choose(
    state: State,
    known: dict[str, Any],
    name: str | None,
    version: Version | None,
    session: str | None,
    timeout_s: float | None,
) -> Target:
    """What a request is for, if the queue of its model has room.

    Args:
        state: of the application.
        known: of the request, for its log line and its trace; gets the model.
        name, version, session: as for `Registry.find`.
        timeout_s: that the request has; None: the client sets none.

    Raises:
        UnknownModel, UnknownVersion, NotReady: as `Registry.find`.
        QueueFull, DeadlineUnreachable: as `Queue.check_room`.
        ModelRefused, ModelUnavailable: as `ServedModel.target`.
    """
    model: ServedModel = state.registry.find(name, version, session)
    known["model"] = model
    # A cached result needs no room in the queue.
    if not state.settings.cache_mb:
        model.queue.check_room(timeout_s=timeout_s)
    return model.target()


def _target(
    request: Request,
    name: str | None,
    version: Version | None,
    top_k: int | None,
    coverage: float | None,
    crop: str | None,
    timeout_s: float | None,
) -> tuple[Target, int]:
    """What the request is for, and the number of predictions.

    Checked before the body is read, which may be large.
    """
    target = choose(
        request.app.state, request.scope["state"], name, version, session(request), timeout_s
    )
    classes = len(target.manifest.labels)
    if top_k is not None and top_k > classes:
        raise InvalidParameter(
            f"top_k: expected 1 to {classes}, the number of classes of {target.model.name}. "
            f"Received: {top_k}"
        )
    if coverage is not None:
        check_coverage(coverage, target)
    if crop == WHOLE and target.manifest.whole is None:
        raise NoWholePicture(
            f"Whole pictures were not measured with {target.model.name}. Expected no crop, or "
            "crop=center. Received: whole"
        )
    return target, min(top_k or DEFAULT_TOP_K, classes)


def _run(
    state: State, target: Target, images: list[bytes], crop: str | None
) -> Coroutine[Any, Any, Outcomes]:
    """Classify images; the cache knows the model's own crop alone."""
    found: Coroutine[Any, Any, Outcomes]
    if crop == WHOLE:
        found = state.classify_uncached(target, images, whole=True)
    else:
        found = state.classify(target, images)
    return found
