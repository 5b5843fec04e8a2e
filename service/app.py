"""The application, built from its settings: `create_app(settings)`. Importing it has no effects."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi_offline import FastAPIOffline

from service.api import problems
from service.api.cors import CrossOrigin
from service.api.middleware import RequestLog
from service.api.routes import router
from service.api.schemas import Problem
from service.api.uploads import BodyBudget
from service.cache import Cache
from service.classifier import Classifier
from service.decoding.pool import Decoder
from service.monitoring.metrics import Metrics
from service.monitoring.tracing import Tracer
from service.protocols import repository
from service.protocols.routes import ROUTES
from service.repository.lifecycle import Lifecycle
from service.repository.registry import Registry
from service.settings import Settings

# The body budget: as many bytes as this number of bodies of the largest size.
MAX_LARGEST_BODIES = 4
TITLE = "ResNet service"
VERSION = "1"
DESCRIPTION = """Post an image, get the best classes with calibrated scores.

Every failure is `application/problem+json` (RFC 9457) with a stable `code`."""


def create_app(settings: Settings, tracer: Tracer | None = None) -> FastAPI:
    """The service over the model repository `settings.models_dir`, whose requests `tracer` traces.

    Models load in the background once the application starts; `/readyz` says when they are ready.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        registry, decoder = Registry(settings.models_dir), Decoder(settings)
        app.state.lifecycle = lifecycle = Lifecycle(settings, registry)
        classify = Classifier(decoder).classify
        cache = Cache(classify, settings.cache_mb * 2**20) if settings.cache_mb else None
        app.state.registry = registry
        app.state.classify = classify if cache is None else cache.classify
        app.state.classify_pixels = classify
        app.state.budget = BodyBudget(MAX_LARGEST_BODIES * settings.max_request_bytes)
        app.state.metrics.watch(registry, decoder, cache)
        await lifecycle.start()
        decoder.start()
        try:
            # Another SIGINT cancels this; the shutdown below still has to run.
            with suppress(asyncio.CancelledError):
                yield
        finally:
            await lifecycle.stop()
            await decoder.stop()

    # /docs is served from the package, not from a content delivery network.
    app: FastAPI = FastAPIOffline(
        title=TITLE,
        version=VERSION,
        description=DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
        # A redirect would be the only failure without problem JSON, and trusts the header Host.
        redirect_slashes=False,
    )
    app.state.settings = settings
    app.state.metrics = metrics = Metrics(
        (error.code for error in problems.PROBLEMS), settings.metrics_classes
    )
    # Not `include_router`, which matches every request twice; and before the routes of /docs.
    app.router.routes[:0] = [*router.routes, *ROUTES]
    if settings.admin_key is not None:
        app.include_router(repository.router)
    problems.install(app, metrics.problem)
    app.add_middleware(
        RequestLog,
        metrics=metrics,
        root_path=settings.root_path or "",
        log_client=settings.log_client,
        tracer=tracer,
    )
    if settings.cors_origins:
        # Outermost: a page may read every failure.
        app.add_middleware(CrossOrigin, origins=settings.cors_origins, count=metrics.problem)

    app.openapi = functools.partial(_openapi, app)  # type: ignore[method-assign]
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI description, with the current models as examples."""
    schema = get_openapi(title=TITLE, version=VERSION, description=DESCRIPTION, routes=app.routes)
    schema["components"]["schemas"]["Problem"] = Problem.model_json_schema()
    batch = schema["paths"]["/predict/batch"]["post"]["requestBody"]["content"]
    files = batch["multipart/form-data"]["schema"]["properties"]["files"]
    files["maxItems"] = app.state.settings.batch_files

    registry: Registry | None = getattr(app.state, "registry", None)
    if registry is None:
        return schema
    # "Try it out" fills in the first example.
    names = sorted({model.name for model in registry.all()})
    names.sort(key=lambda name: name != registry.default_name)
    for path in schema["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", []):
                if parameter["name"] in ("model", "name") and names:
                    parameter["examples"] = {name: {"value": name} for name in names}
    return schema
