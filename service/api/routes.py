"""The routes: from request to response, by way of upload, decoder and model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from bundle.errors import BundleError, ImageError
from bundle.format.manifest import NAME_PATTERN, Input, Manifest
from bundle.imaging.decode import DecodedImage
from service.api import responses, schemas
from service.api.openapi import BATCH_BODY, CACHE_STATUS, IMAGE_BODY, problems
from service.api.parameters import KNOWN_PARAMETERS, NameQuery, TopKQuery, VersionQuery
from service.api.problems import ClientGone, problem, request_id
from service.api.uploads import read_image, read_images
from service.cache import BatchResult, Cache, Classified, Result, Target
from service.decoding.pool import Decoder
from service.errors import Failure, InvalidParameter, ServiceError
from service.metrics import Metrics
from service.models.model import ServedModel
from service.models.registry import Registry
from service.settings import Settings

T = TypeVar("T")

DEFAULT_TOP_K = 5

router = APIRouter()


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
    cache: Cache | None = request.app.state.cache
    model, manifest, k = _model(request, name, version, top_k)
    with request.app.state.budget.reserve() as reservation:
        upload = await read_image(request, reservation, settings.max_image_bytes)

        async def compute() -> Result:
            with model.admit(1):
                begun = time.perf_counter()
                decoded = await _decoder(request).decode(upload.data, manifest.input)
                decode_s = time.perf_counter() - begun
                (inference,) = await model.predict([decoded.pixels], manifest)
                return Result(Classified(decoded.info, inference), decode_s)

        if cache is None:
            result = await _unless_gone(request, compute())
        else:
            lookup = cache.one(Target.of(model, manifest), upload.data, compute)
            result, status = await _unless_gone(request, lookup)
            response.headers.update(responses.cache_status(status))
    info, inference = result.image
    timing_ms = responses.timing(result.decode_s, [inference], started)
    _metrics(request).stages(model, timing_ms)
    return {
        "predictions": responses.predictions(manifest, inference, k),
        "model": responses.used(model, manifest),
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
    """Send each image as a form field `files`. A bad image gets an error in its place."""
    started = time.perf_counter()
    settings: Settings = request.app.state.settings
    cache: Cache | None = request.app.state.cache
    model, manifest, k = _model(request, name, version, top_k)
    with request.app.state.budget.reserve() as reservation:
        uploads = await read_images(
            request, reservation, settings.max_request_bytes, settings.batch_files
        )
        images = [upload.data for upload in uploads]

        async def compute(images: list[bytes]) -> BatchResult:
            with model.admit(len(images)):
                begun = time.perf_counter()
                decoded = await _decode_all(_decoder(request), images, manifest.input)
                decode_s = time.perf_counter() - begun
                pixels = [item.pixels for item in decoded if isinstance(item, DecodedImage)]
                inferences = iter(await model.predict(pixels, manifest) if pixels else [])
                return BatchResult(
                    [
                        Classified(item.info, next(inferences))
                        if isinstance(item, DecodedImage)
                        else item
                        for item in decoded
                    ],
                    decode_s,
                )

        if cache is None:
            result = await _unless_gone(request, compute(images))
        else:
            lookup = cache.several(Target.of(model, manifest), images, compute)
            result, status = await _unless_gone(request, lookup)
            response.headers.update(responses.cache_status(status))
    inferences = [image.inference for image in result.images if isinstance(image, Classified)]
    timing_ms = responses.timing(result.decode_s, inferences, started)
    _metrics(request).stages(model, timing_ms)
    identity = request_id(request)
    results: list[dict[str, Any]] = []
    for upload, image in zip(uploads, result.images, strict=True):
        if isinstance(image, Classified):
            predictions = responses.predictions(manifest, image.inference, k)
            outcome = {"predictions": predictions, "image": image.info}
        else:
            _metrics(request).problem(image.code)
            outcome = {"error": problem(image, identity)}
        results.append({"filename": upload.filename, **outcome})
    return {
        "results": results,
        "model": responses.used(model, manifest),
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
        "models": [responses.summary(model) for model in registry.all()],
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
    return responses.record(_registry(request).find(name, version))


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
    registry = _registry(request)
    registry.check_ready()
    return responses.ready(registry.all())


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    summary="Metrics for Prometheus",
    tags=["health"],
)
async def metrics(request: Request) -> PlainTextResponse:
    """Requests, stages, models and the cache; docs/operation.md lists the metrics."""
    text = generate_latest(_metrics(request))
    return PlainTextResponse(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)


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
    """The requested model, its manifest, and the number of predictions.

    Checked before the body is read, which may be large.
    """
    model = _registry(request).find(name, version)
    manifest = model.check_serving()
    # A cached result needs no room in the queue.
    if request.app.state.cache is None:
        model.check_room()
    classes = len(manifest.labels)
    if top_k is not None and top_k > classes:
        raise InvalidParameter(
            f"top_k: expected 1 to {classes}, the number of classes of {model.name}. "
            f"Received: {top_k}"
        )
    return model, manifest, min(top_k or DEFAULT_TOP_K, classes)


async def _decode_all(
    decoder: Decoder, images: list[bytes], geometry: Input
) -> list[DecodedImage | Failure]:
    async def one(data: bytes) -> DecodedImage | Failure:
        try:
            return await decoder.decode(data, geometry)
        except (ImageError, ServiceError, BundleError) as exc:
            return exc

    return await asyncio.gather(*map(one, images))


async def _unless_gone(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled when the client closes the connection."""

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
