"""The application, built from its settings: `create_app(settings)`. Importing it has no effects."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi_offline import FastAPIOffline
from starlette.routing import BaseRoute, Route

from service.access.door import Door
from service.access.keys import Keys
from service.analysis import card, models
from service.analysis import routes as analysis
from service.api import problems
from service.api.cors import CrossOrigin
from service.api.middleware import RequestLog
from service.api.routes import router
from service.api.schemas import Problem
from service.api.uploads import BodyBudget
from service.cache import Cache
from service.classifier import Classifier
from service.decoding.pool import Decoder
from service.models.model import ServedModel
from service.monitoring.metrics import Metrics
from service.monitoring.tracing import Tracer
from service.network.browsers import STATIC, documentation
from service.protocols import repository
from service.protocols.routes import ROUTES
from service.remote.follow import follow
from service.repository.lifecycle import Lifecycle
from service.repository.registry import Registry
from service.settings import Settings

# The body budget: as many bytes as this number of bodies of the largest size.
MAX_LARGEST_BODIES = 4
# Where there is an admin port, it alone serves what lies below these paths.
OPERATORS = ("/docs", "/openapi.json", STATIC, "/metrics", "/v2/repository")
TITLE = "ResNet service"
VERSION = "1"
DESCRIPTION = """Post an image, get the best classes with calibrated scores.

Every failure is `application/problem+json` (RFC 9457) with a stable `code`."""


def create_app(
    settings: Settings,
    tracer: Tracer | None = None,
    new_model: Callable[..., ServedModel] = ServedModel,
) -> FastAPI:
    """The service over a model repository, `settings.models_folder`; `tracer` traces its requests.

    Models load in the background once the application starts; `/readyz` says when they are ready.
    `new_model` makes a model that is not loaded yet, as for `Lifecycle`.

    Raises:
        SettingsError: the API keys can't be read.
    """
    keys = Keys(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        registry, decoder = Registry(settings.models_folder), Decoder(settings)
        app.state.lifecycle = lifecycle = Lifecycle(settings, registry, new_model)
        classifier = Classifier(decoder)
        classify = classifier.classify
        cache = Cache(classify, settings.cache_mb * 2**20) if settings.cache_mb else None
        app.state.registry = registry
        app.state.classify = classify if cache is None else cache.classify
        app.state.classify_uncached = classify
        app.state.compare, app.state.draw = classifier.compare, decoder.draw
        app.state.budget = BodyBudget(MAX_LARGEST_BODIES * settings.max_request_bytes)
        app.state.metrics.watch(registry, decoder, cache)
        await lifecycle.start()
        decoder.start()
        app.state.remote = remote = follow(settings, registry, lifecycle.look)
        polls = [poll for poll in (keys.poll, remote) if poll is not None]
        watching = [asyncio.create_task(poll.run()) for poll in polls]
        grpc_server = None
        if settings.grpc_port is not None:
            from service.rpc.server import GrpcServer  # noqa: PLC0415 - an extra

            grpc_server = GrpcServer(app.state, settings, app.state.certificate)
            app.state.grpc_server = grpc_server
            await grpc_server.start()
        try:
            # Another SIGINT cancels this; the shutdown below still has to run.
            with suppress(asyncio.CancelledError):
                yield
        finally:
            for task in watching:
                task.cancel()
            # Of a look at models that lie elsewhere: its process ends with it.
            await asyncio.gather(*watching, return_exceptions=True)
            if grpc_server is not None:
                with suppress(asyncio.CancelledError):
                    await grpc_server.end()
            await lifecycle.stop()
            await decoder.stop()

    # /docs is served from the package, not from a content delivery network.
    app: FastAPI = FastAPIOffline(
        title=TITLE,
        version=VERSION,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        # A redirect would be the only failure without problem JSON, and trusts the header Host.
        redirect_slashes=False,
    )
    app.state.settings = settings
    app.state.keys = keys
    app.state.tracer = tracer
    # Of HTTPS, which is known when the application is served.
    app.state.certificate = None
    app.state.metrics = Metrics(
        (error.code for error in problems.PROBLEMS), keys, settings.metrics_classes
    )
    # Not `include_router`, which matches every request twice; and before the routes of /docs.
    analysis_routes = [*analysis.router.routes, *models.router.routes, *card.router.routes]
    app.router.routes[:0] = [*router.routes, *analysis_routes, *ROUTES]
    app.add_api_route("/docs", documentation, include_in_schema=False)
    if settings.has_administrators:
        app.include_router(repository.router)
    _surround(app)
    app.openapi = functools.partial(_openapi, app)  # type: ignore[method-assign]
    return app


def public_app(app: FastAPI) -> FastAPI:
    """What the public port serves where there is an admin port, which serves `app`.

    The same models, metrics and log, without the routes for operators.
    """
    public = FastAPI(openapi_url=None, redirect_slashes=False)
    public.state = app.state
    public.router.routes[:] = [route for route in app.routes if _is_public(route)]
    _surround(public)
    return public


def _is_public(route: BaseRoute) -> bool:
    """Whether a route is for clients; that of a whole router, which has no path, is not."""
    path: str | None = getattr(route, "path", None)
    leads_to_docs = path == "/" and isinstance(route, Route) and "GET" in (route.methods or ())
    return path is not None and not path.startswith(OPERATORS) and not leads_to_docs


def _surround(app: FastAPI) -> None:
    """Make failures of `app` problems, and log and count its requests."""
    settings: Settings = app.state.settings
    metrics: Metrics = app.state.metrics
    problems.install(app, metrics.problem)
    root_path = settings.root_path or ""
    if settings.needs_keys:
        app.add_middleware(
            Door,
            keys=app.state.keys,
            routes=app.routes,
            root_path=root_path,
            has_docs=app.openapi_url is not None,
        )
    app.add_middleware(
        RequestLog,
        metrics=metrics,
        root_path=root_path,
        log_client=settings.log_client,
        tracer=app.state.tracer,
    )
    if settings.cors_origins:
        # Outermost: a page may read every failure.
        app.add_middleware(CrossOrigin, origins=settings.cors_origins, count=metrics.problem)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI description, with the current models as examples."""
    schema = get_openapi(title=TITLE, version=VERSION, description=DESCRIPTION, routes=app.routes)
    schema["components"]["schemas"]["Problem"] = Problem.model_json_schema()
    batch = schema["paths"]["/predict/batch"]["post"]["requestBody"]["content"]
    files = batch["multipart/form-data"]["schema"]["properties"]["files"]
    files |= {"minItems": 1, "maxItems": app.state.settings.batch_files}

    if app.state.keys.are_needed:
        # For generated clients, and for the button "Authorize" of /docs.
        schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        schema["security"] = [{"key": []}]
    registry: Registry | None = getattr(app.state, "registry", None)
    # The document needs no key, but the names of the models do.
    if registry is None or app.state.keys.are_needed:
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
