"""The routes of an operator: list, load and unload models, as Triton's model repository extension.

They need SERVICE_ADMIN_KEY or the API key of an administrator, and exist where there can be one:
https://docs.nvidia.com/deeplearning/triton-inference-server (protocol, extension_model_repository).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request

from bundle.format.manifest import NAME_PATTERN
from service.access.keys import Keys
from service.api import schemas
from service.api.openapi import problems
from service.api.parameters import KNOWN_PARAMETERS
from service.models.model import State
from service.repository.lifecycle import Lifecycle
from service.repository.registry import Registry

# In Triton's words.
STATES: dict[State, str] = {
    "loading": "LOADING",
    "ready": "READY",
    "restarting": "UNAVAILABLE",
    "refused": "UNAVAILABLE",
}
ModelName = Annotated[str, Path(pattern=rf"^{NAME_PATTERN}$", description="Name of the model.")]


def check_key(keys: Keys, headers: Mapping[str, str]) -> None:
    """Check the key in the headers of a request, unless the door of the service has.

    Args:
        keys: Of the clients and of administrators.
        headers: Their names are in lower case.

    Raises:
        Unauthorized, UnknownKey: as `Keys.check`.
    """
    if not keys.are_needed:
        keys.check(headers.get("authorization"), headers.get("x-api-key"))


async def _authorised(request: Request) -> None:
    check_key(request.app.state.keys, request.headers)


def entries(registry: Registry) -> list[dict[str, Any]]:
    """Every version with its state in Triton's words, and why it is not ready.

    A model that is unloaded has no versions.
    """
    unloaded = [
        {"name": name, "version": "", "state": "UNAVAILABLE", "reason": "unloaded"}
        for name in sorted(registry.unloaded - registry.models.keys())
    ]
    return unloaded + [
        {
            "name": model.name,
            "version": str(model.version),
            "state": STATES[model.state],
            "reason": model.reason or model.update_error or "",
        }
        for model in registry.all()
    ]


router = APIRouter(
    prefix="/v2/repository",
    dependencies=[Depends(_authorised), *KNOWN_PARAMETERS],
    tags=["repository"],
)


@router.post(
    "/index",
    response_model=list[schemas.IndexEntry],
    responses=problems(401, 403, 422),
    summary="The versions that are loaded, being loaded or refused",
)
async def index(request: Request) -> list[dict[str, Any]]:
    """Every version with its state in Triton's words, and why it is not ready."""
    return entries(request.app.state.registry)


@router.post(
    "/models/{name}/load",
    responses=problems(401, 403, 404, 422, 503),
    summary="Look at the repository now, and load a model",
)
async def load(request: Request, name: ModelName) -> dict[str, str]:
    """Responds when the model serves, or is refused; what served before serves on."""
    lifecycle: Lifecycle = request.app.state.lifecycle
    await lifecycle.load(name)
    return {}


@router.post(
    "/models/{name}/unload",
    responses=problems(401, 403, 404, 422),
    summary="Unload a model",
)
async def unload(request: Request, name: ModelName) -> dict[str, str]:
    """Responds when its processes have ended; it stays so until `load`, or a restart."""
    lifecycle: Lifecycle = request.app.state.lifecycle
    await lifecycle.unload(name)
    return {}
