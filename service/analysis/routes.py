"""The routes of this room: from request to response."""

from __future__ import annotations

import time
from contextlib import ExitStack, nullcontext
from operator import attrgetter
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from starlette.datastructures import State

from bundle.errors import BundleError, ImageError
from bundle.imaging.geometry import seen
from bundle.worker.responses import Extras
from service.analysis import compare as comparing
from service.analysis import explain as explaining
from service.analysis import schemas
from service.analysis.feedback import BODY, EXPECTED, MAX_BODY_BYTES, Feedback, keep
from service.analysis.requests import prefers, uploaded
from service.api import responses
from service.api.disconnect import unless_gone
from service.api.headers import HEADER, PARAMETER, requested_timeout, within
from service.api.json_body import JSON, decode_json
from service.api.openapi import IMAGE_BODY, SUCCESS, problems
from service.api.parameters import KNOWN_PARAMETERS, NameQuery, TopKQuery, VersionQuery
from service.api.problems import problem, request_id
from service.api.routes import DEFAULT_TOP_K
from service.api.uploads import content_type, read_body, read_image
from service.errors import FeedbackOff, NoEmbedding, ServiceError, UnsupportedMediaType
from service.models.model import Target
from service.models.queued import Classification

PNG = "image/png"
TIMED = {"Server-Timing": SUCCESS[200]["headers"]["Server-Timing"]}
OF_AN_IMAGE: dict[str, Any] = {
    "openapi_extra": {"requestBody": IMAGE_BODY, "parameters": [PARAMETER]},
    "dependencies": KNOWN_PARAMETERS,
    "tags": ["analyse"],
}
REFUSALS = problems(400, 401, 404, 408, 413, 415, 422, 429, 503, 504)

router = APIRouter(generate_unique_id_function=attrgetter("name"))


@router.post(
    "/explain",
    response_model=schemas.ExplainResponse,
    summary="Where the network looked",
    responses=REFUSALS
    | {
        200: {
            "headers": TIMED,
            "content": {PNG: {"schema": {"type": "string", "format": "binary"}}},
        }
    },
    **OF_AN_IMAGE,
)
async def explain(
    request: Request,
    response: Response,
    name: NameQuery = None,
    version: VersionQuery = None,
    label: Annotated[
        str | None, Query(min_length=1, max_length=200, description="Label of the class.")
    ] = None,
    index: Annotated[int | None, Query(ge=0, description="Index of the class, from 0.")] = None,
    rank: Annotated[
        int | None, Query(ge=1, description="Rank of the class; default: 1, the best one.")
    ] = None,
) -> Any:
    """The heat map of a class, with `Accept: image/png` drawn over the picture."""
    started = time.perf_counter()
    state: State = request.app.state
    wanted = explaining.Class(None, 1)

    def check(target: Target) -> None:
        nonlocal wanted
        wanted = explaining.wanted_class(target, label, index, rank)

    async def run(target: Target, data: bytes) -> tuple[explaining.Explained, bytes]:
        explained = await explaining.explain(state, target, data, wanted)
        if not prefers(request.headers.get("accept", ""), PNG, JSON):
            return explained, b""
        return explained, await state.draw(data, target.manifest.input, explained.heatmap)

    async with uploaded(request, name, version, check) as (target, data):
        explained, drawn = await unless_gone(request, run(target, data))
    found, manifest = explained.found, target.manifest
    timing_ms = _timed(request, response, target, found, started)
    if drawn:
        headers = {"Server-Timing": response.headers["Server-Timing"]}
        return Response(drawn, media_type=PNG, headers=headers)
    return {
        "label": manifest.labels[explained.class_index],
        "index": explained.class_index,
        "score": explained.score,
        "heatmap": explaining.as_json(explained),
        **responses.answer(manifest, found, min(DEFAULT_TOP_K, len(manifest.labels))),
        **_described(request, target, found, timing_ms),
    }


@router.post(
    "/embed",
    response_model=schemas.EmbedResponse,
    summary="The vector before the classifier",
    responses=REFUSALS | {200: {"headers": TIMED}},
    **OF_AN_IMAGE,
)
async def embed(
    request: Request,
    response: Response,
    name: NameQuery = None,
    version: VersionQuery = None,
    normalise: Annotated[bool, Query(description="Scale the vector to length 1.")] = True,
) -> dict[str, Any]:
    """For search and near-duplicates: similar pictures have vectors of nearly one direction."""
    started = time.perf_counter()

    def check(target: Target) -> None:
        if target.info["embedding"] is None:
            raise NoEmbedding(
                f"The network of {target.model.name} has no embedding. Expected a model whose "
                "network ends with a linear layer."
            )

    async with uploaded(request, name, version, check) as (target, data):
        extras = Extras(embedding=True)
        outcomes = await unless_gone(
            request, request.app.state.classify_uncached(target, [data], extras)
        )
    (found,) = outcomes.images
    if not isinstance(found, Classification):
        raise found
    vector = found.embedding
    assert vector is not None  # noqa: S101 - it was asked for
    if normalise:
        vector = (vector / (np.linalg.norm(vector) or 1.0)).astype(np.float32)
    timing_ms = _timed(request, response, target, found, started)
    return {
        # The shortest decimals that are these float32.
        "embedding": [float(str(each)) for each in vector],
        "dimension": len(vector),
        "normalised": normalise,
        **_described(request, target, found, timing_ms),
    }


@router.post(
    "/compare",
    response_model=schemas.CompareResponse,
    summary="What several models say of one image",
    responses=REFUSALS | {200: {"headers": TIMED}},
    **OF_AN_IMAGE,
)
async def compare(
    request: Request,
    response: Response,
    models: Annotated[
        str | None,
        Query(
            pattern=comparing.NAMES_PATTERN,
            description="NAME or NAME@VERSION, separated by commas; default: all that serve.",
        ),
    ] = None,
    top_k: TopKQuery = None,
) -> dict[str, Any]:
    """All run at once; a model that has no answer gets an error in its place."""
    started = time.perf_counter()
    state: State = request.app.state
    timeout_s = requested_timeout(request) if HEADER in request.headers else None
    chosen = comparing.named(state.registry, models)
    outcomes: dict[str, Classification | ServiceError | BundleError | ImageError] = {}
    targets: list[Target] = []
    for model in chosen:
        try:
            targets.append(model.target())
        except ServiceError as exc:
            outcomes[comparing.key(model)] = exc
    comparing.check_top_k(targets, top_k)
    async with within(timeout_s) if timeout_s else nullcontext():
        with ExitStack() as used, state.budget.reserve() as reservation:
            for target in targets:
                used.enter_context(target)
            upload = await read_image(request, reservation, state.settings.max_image_bytes)
            found = await unless_gone(request, state.compare(targets, upload.data))
    outcomes |= {comparing.key(t.model): each for t, each in zip(targets, found, strict=True)}
    answers = [
        comparing.Answer(target, each)
        for target, each in zip(targets, found, strict=True)
        if isinstance(each, Classification)
    ]
    if not answers:
        # What is wrong with the image is wrong for every model.
        failures = [each for each in outcomes.values() if isinstance(each, Exception)]
        raise next((each for each in failures if isinstance(each, ImageError)), failures[0])
    by_key = {comparing.key(answer.target.model): answer for answer in answers}
    identity = request_id(request)
    results: list[dict[str, Any]] = []
    for model in chosen:
        answer, outcome = by_key.get(comparing.key(model)), outcomes[comparing.key(model)]
        if isinstance(outcome, Exception):
            state.metrics.problem(outcome.code)
            about = {"name": model.name, "version": model.version}
            results.append({"model": about, "error": problem(outcome, identity)})
        elif answer is not None:
            results.append(_compared(request, answer, top_k))
    timing_ms = responses.timing([answer.found for answer in answers], started)
    request.scope["state"]["timing_ms"] = timing_ms
    response.headers["Server-Timing"] = responses.server_timing(timing_ms)
    return {
        "results": results,
        "agreement": comparing.agreement(answers),
        "divergences": comparing.divergences(answers),
        "image": answers[0].found.info,
        "timing_ms": timing_ms,
        "request_id": identity,
    }


@router.post(
    "/feedback",
    status_code=204,
    response_class=Response,
    openapi_extra={"requestBody": BODY},
    responses=problems(400, 401, 404, 408, 413, 415, 422, 429, 503),
    dependencies=KNOWN_PARAMETERS,
    summary="Say whether an answer was right",
    tags=["analyse"],
)
async def feedback(request: Request) -> None:
    """A line in the file `SERVICE_FEEDBACK_FILE`, without the picture; 404 where there is none."""
    state: State = request.app.state
    file = state.settings.feedback_file
    if file is None:
        raise FeedbackOff("This service keeps no feedback (SERVICE_FEEDBACK_FILE is not set).")
    if content_type(request) != JSON:
        raise UnsupportedMediaType(
            f"The content type of the request is not supported. Expected {JSON}. "
            f"Received: {content_type(request)[:100] or 'none'}"
        )
    with state.budget.reserve() as reservation:
        body = await read_body(request, reservation, MAX_BODY_BYTES)
    said = decode_json(body, Feedback, EXPECTED)
    state.registry.find(said.model, said.version)
    await keep(file, said, request.scope["state"].get("key"))


def _timed(
    request: Request, response: Response, target: Target, found: Classification, started: float
) -> dict[str, float]:
    """The times of a request, which are counted and in its headers.

    What is predicted is not counted: it is of an image that was mostly counted before.
    """
    timing_ms = responses.timing([found], started)
    response.headers["Server-Timing"] = responses.server_timing(timing_ms)
    known, metrics = request.scope["state"], request.app.state.metrics
    metrics.answered(known, target.model, [found], timing_ms, [])
    return timing_ms


def _described(
    request: Request, target: Target, found: Classification, timing_ms: dict[str, float]
) -> dict[str, Any]:
    """What every response about one image and one model ends with."""
    assert found.info is not None  # noqa: S101 - it was a file
    return {
        "seen": seen(found.info, target.manifest.input),
        "model": responses.used(target),
        "image": found.info,
        "timing_ms": timing_ms,
        "request_id": request_id(request),
    }


def _compared(request: Request, answer: comparing.Answer, top_k: int | None) -> dict[str, Any]:
    """What one model says, and its times."""
    (target, found), state = answer, request.app.state
    timing_ms = responses.timing([found], time.perf_counter())
    timing_ms["total"] = round(1000 * (found.decode_s + found.queue_s + found.inference_s), 3)
    state.metrics.answered(request.scope["state"], target.model, [found], timing_ms, [])
    assert found.info is not None  # noqa: S101 - it was a file
    k = min(top_k or DEFAULT_TOP_K, len(target.manifest.labels))
    return {
        "model": responses.used(target),
        **responses.answer(target.manifest, found, k),
        "seen": seen(found.info, target.manifest.input),
        "timing_ms": timing_ms,
    }
