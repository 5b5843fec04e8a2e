"""The application, built from its settings: `create_app(settings)`. Nothing happens at import."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi_offline import FastAPIOffline

from service import metrics
from service.api import problems
from service.api.fast_path import FastPath
from service.api.middleware import RequestLog
from service.api.routes import router
from service.api.schemas import Problem
from service.api.uploads import Memory
from service.cache import Cache
from service.decoding.pool import Decoder
from service.models.registry import Registry
from service.settings import Settings

LARGEST_REQUESTS = (
    4  # bodies of the largest size that are held at once; of smaller ones as many as take no more
)
TITLE = "ResNet service"
VERSION = "1"
DESCRIPTION = """Post an image, get the best classes with calibrated scores.

Every failure is `application/problem+json` (RFC 9457) with a stable `code`."""


def create_app(settings: Settings) -> FastAPI:
    """The service over the model repository `settings.models_dir`.

    Models load in the background once the application starts; `/readyz` says when they answer.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        registry, decoder = Registry(settings), Decoder(settings)
        app.state.registry, app.state.decoder = registry, decoder
        app.state.memory = Memory(LARGEST_REQUESTS * settings.max_request_bytes)
        app.state.cache = Cache(settings.cache_mb * 2**20) if settings.cache_mb else None
        app.state.metrics.watch(registry, app.state.cache)
        registry.start()
        decoder.start()
        try:
            # SIGINT once more, see service.server: what follows is done all the same.
            with suppress(asyncio.CancelledError):
                yield
        finally:
            await registry.stop()
            await decoder.stop()

    # The pages of /docs come from the package, not from a content delivery network.
    app: FastAPI = FastAPIOffline(
        title=TITLE,
        version=VERSION,
        description=DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would be the one failure without problem JSON, and builds on Host
    )
    app.state.settings = settings
    app.state.metrics = measured = metrics.Metrics()
    app.include_router(router)
    app.include_router(metrics.router)
    problems.install(app, measured.problem)
    app.add_middleware(FastPath, metrics=measured)
    app.add_middleware(RequestLog, metrics=measured)  # the outermost

    def openapi() -> dict[str, Any]:
        """The description, with the models that exist now as examples."""
        schema = get_openapi(
            title=TITLE, version=VERSION, description=DESCRIPTION, routes=app.routes
        )
        registry: Registry | None = getattr(app.state, "registry", None)
        schema["components"]["schemas"]["Problem"] = Problem.model_json_schema()
        default = registry.default_name if registry else None
        # What stands first is what "Try it out" fills in.
        names = (
            sorted(
                {model.name for model in registry.all()}, key=lambda name: (name != default, name)
            )
            if registry
            else []
        )
        body = schema["paths"]["/predict/batch"]["post"]["requestBody"]["content"][
            "multipart/form-data"
        ]
        body["schema"]["properties"]["files"]["maxItems"] = settings.batch_files
        for path in schema["paths"].values():
            for operation in path.values():
                for parameter in operation.get("parameters", []):
                    if parameter["name"] in ("model", "name") and names:
                        parameter["examples"] = {name: {"value": name} for name in names}
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
    return app
