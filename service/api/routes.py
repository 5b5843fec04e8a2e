"""The routes: what comes in, who works on it, what goes out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from bundle.errors import BundleError, ImageError
from bundle.format.manifest import NAME_PATTERN, Input, Manifest
from bundle.imaging.decode import DecodedImage, ImageInfo
from service.api import responses as answers
from service.api import schemas
from service.api.openapi import BATCH_BODY, CACHE_STATUS, IMAGE_BODY, problems
from service.api.problems import ClientGone, problem, request_id
from service.api.uploads import Upload, read_image, read_images
from service.cache import answer_one, answer_several
from service.decoding.pool import Decoder
from service.errors import InvalidParameter, ServiceError, UnknownParameter
from service.metrics import Metrics
from service.models.batcher import InferenceResult
from service.models.model import ServedModel
from service.models.registry import Registry
from service.settings import Settings

T = TypeVar("T")

router = APIRouter()

NameQuery = Annotated[
    str | None,
    Query(
        alias="model",
        pattern=rf"^{NAME_PATTERN}$",
        description="Name of the model; default: the default one.",
    ),
]
VersionQuery = Annotated[
    int | None, Query(ge=1, description="Version of the model; default: the newest that serves.")
]
TopKQuery = Annotated[
    int | None, Query(ge=1, description="Number of answers; default 5, or all classes if fewer.")
]
DEFAULT_TOP_K = 5


async def known_parameters(request: Request) -> None:
    """Refuse a query parameter that the route does not have; without it the answer would be to another question.

    Raises:
        UnknownParameter: there is one; the text names the nearest that exists.
    """
    known = [field.alias for field in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name not in known:
            nearest = get_close_matches(name[:100].lower(), known, 1)
            raise UnknownParameter(
                "There is no query parameter of this name."
                + (f" Did you mean {nearest[0]!r}?" if nearest else "")
                + f" Expected: {', '.join(known) or 'none'}. Received: {name[:100]!r}"
            )


KNOWN_PARAMETERS = [Depends(known_parameters)]


@router.post(
    "/predict",
    response_model=schemas.PredictResponse,
    responses=CACHE_STATUS | problems(400, 404, 408, 413, 415, 422, 429, 503),
    openapi_extra={"requestBody": IMAGE_BODY},
    dependencies=KNOWN_PARAMETERS,
    summary="Classify one image",
    tags=["predict"],
)
async def predict(
    request: Request,
    response: Response,
    name: NameQuery = None,
    version: VersionQuery = None,
    top_k: TopKQuery = None,
) -> dict[str, Any]:
    """Send the image as the form field `file`, or as the raw body with an image content type."""
    started = time.perf_counter()
    settings: Settings = request.app.state.settings
    model, manifest, k = _model(request, name, version, top_k)
    with request.app.state.memory.hold() as share:
        upload = await read_image(request, share, settings.max_image_bytes)

        async def work() -> tuple[ImageInfo, float, InferenceResult]:
            with model.admit(1):
                begun = time.perf_counter()
                decoded = await _decoder(request).decode(upload.data, manifest.input)
                decode_s = time.perf_counter() - begun
                (answer,) = await model.predict([decoded.pixels], manifest)
                return decoded.info, decode_s, answer

        found = answer_one(request.app.state.cache, response, model, manifest, upload, work)
        info, decode_s, answer = await _unless_gone(request, found)
    timing_ms = answers.timing(decode_s, [answer], started)
    _metrics(request).stages(model, timing_ms)
    return {
        "predictions": answers.predictions(manifest, answer, k),
        "model": answers.used(model, manifest),
        "image": info,
        "timing_ms": timing_ms,
        "request_id": request_id(request),
    }


@router.post(
    "/predict/batch",
    response_model=schemas.BatchResponse,
    responses=CACHE_STATUS | problems(400, 404, 408, 413, 415, 422, 429, 503),
    openapi_extra={"requestBody": BATCH_BODY},
    dependencies=KNOWN_PARAMETERS,
    summary="Classify several images",
    tags=["predict"],
)
async def predict_batch(
    request: Request,
    response: Response,
    name: NameQuery = None,
    version: VersionQuery = None,
    top_k: TopKQuery = None,
) -> dict[str, Any]:
    """Send each image as a form field `files`; a bad image has an error in its place and harms no other."""
    started = time.perf_counter()
    settings: Settings = request.app.state.settings
    model, manifest, k = _model(request, name, version, top_k)
    with request.app.state.memory.hold() as share:
        uploads = await read_images(
            request, share, settings.max_request_bytes, settings.batch_files
        )

        async def work(
            uploads: list[Upload],
        ) -> tuple[list[ImageInfo | Exception], float, list[InferenceResult]]:
            with model.admit(len(uploads)):
                begun = time.perf_counter()
                decoded = await _decode_all(_decoder(request), uploads, manifest.input)
                decode_s = time.perf_counter() - begun
                images = [item.pixels for item in decoded if isinstance(item, DecodedImage)]
                infos = [item.info if isinstance(item, DecodedImage) else item for item in decoded]
                return infos, decode_s, await model.predict(images, manifest) if images else []

        found = answer_several(request.app.state.cache, response, model, manifest, uploads, work)
        infos, decode_s, given = await _unless_gone(request, found)
    timing_ms = answers.timing(decode_s, given, started)
    _metrics(request).stages(model, timing_ms)
    identity = request_id(request)
    remaining = iter(given)
    results: list[dict[str, Any]] = []
    for upload, item in zip(uploads, infos, strict=True):
        if isinstance(item, ImageInfo):
            result = {
                "predictions": answers.predictions(manifest, next(remaining), k),
                "image": item,
            }
        else:
            failure = problem(item, identity)
            _metrics(request).problem(failure["code"])
            result = {"error": failure}
        results.append({"filename": upload.filename, **result})
    return {
        "results": results,
        "model": answers.used(model, manifest),
        "timing_ms": timing_ms,
        "request_id": identity,
    }


@router.get(
    "/models",
    response_model=schemas.ModelList,
    responses=problems(422),
    dependencies=KNOWN_PARAMETERS,
    summary="The models and their states",
    tags=["models"],
)
async def models(request: Request) -> dict[str, Any]:
    """Every version in the repository, the refused ones with the reason."""
    registry = _registry(request)
    return {
        "default": registry.default_name,
        "models": [answers.summary(model) for model in registry.all()],
    }


@router.get(
    "/models/{name}",
    response_model=schemas.ModelRecord,
    responses=problems(404, 422),
    dependencies=KNOWN_PARAMETERS,
    summary="The record of one model",
    tags=["models"],
)
async def model_record(
    request: Request,
    name: Annotated[str, Path(pattern=rf"^{NAME_PATTERN}$", description="Name of the model.")],
    version: VersionQuery = None,
) -> dict[str, Any]:
    """Labels, input, metrics, calibration and provenance, as the manifest has them."""
    model = _registry(request).find(name, version)
    manifest, info = model.manifest, model.info
    copied = (
        "created", "description", "labels", "input", "training", "metrics", "calibration", "export", "artifacts", "files"
    )  # fmt: skip
    return {
        **answers.summary(model),
        **{field: getattr(manifest, field) if manifest else None for field in copied},
        "parameters": manifest.architecture.parameters if manifest else None,
        "framework_versions": manifest.framework.versions if manifest else None,
        "runtime_version": info["runtime_version"] if info else None,
        "golden_max_difference": info["golden_max_difference"] if info else None,
    }


@router.get(
    "/healthz", response_model=schemas.Alive, summary="Is the process alive?", tags=["health"]
)
async def healthz() -> dict[str, str]:
    """200 as long as the process answers at all; says nothing of the models."""
    return {"status": "alive"}


@router.get(
    "/readyz",
    response_model=schemas.Ready,
    responses=problems(503),
    summary="Can requests be answered?",
    tags=["health"],
)
async def readyz(request: Request) -> dict[str, Any]:
    """200 once every model is loaded and self-tested or refused, and the default one serves."""
    registry = _registry(request)
    registry.check_ready()
    return {
        "status": "ready",
        "models": [
            {"name": m.name, "version": m.version, "state": m.state} for m in registry.all()
        ],
        "refused": [
            {"name": m.name, "version": m.version, "code": m.code, "reason": m.reason}
            for m in registry.all()
            if m.state == "refused"
        ],
    }


def _registry(request: Request) -> Registry:
    registry: Registry = request.app.state.registry
    return registry


def _metrics(request: Request) -> Metrics:
    metrics: Metrics = request.app.state.metrics
    return metrics


def _decoder(request: Request) -> Decoder:
    decoder: Decoder = request.app.state.decoder
    return decoder


def _model(
    request: Request, name: str | None, version: int | None, top_k: int | None
) -> tuple[ServedModel, Manifest, int]:
    """The model that answers, its record, and the number of answers; before the body is read, for it may be large."""
    model = _registry(request).find(name, version)
    manifest = model.check_serving()
    if request.app.state.cache is None:  # what is kept is answered, however many wait
        model.check_room()
    classes = len(manifest.labels)
    if top_k is not None and top_k > classes:
        raise InvalidParameter(
            f"top_k: expected 1 to {classes}, the number of classes of {model.name}. Received: {top_k}"
        )
    return model, manifest, min(top_k or DEFAULT_TOP_K, classes)


async def _decode_all(
    decoder: Decoder, uploads: list[Upload], geometry: Input
) -> list[DecodedImage | Exception]:
    async def one(upload: Upload) -> DecodedImage | Exception:
        try:
            return await decoder.decode(upload.data, geometry)
        except (ImageError, ServiceError, BundleError) as exc:
            return exc

    return await asyncio.gather(*(one(upload) for upload in uploads))


async def _unless_gone(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled when the client closes the connection meanwhile."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, watching = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        working.cancel()
        watching.cancel()
