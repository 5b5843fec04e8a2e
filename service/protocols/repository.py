"""The routes of an operator: list, load and unload models, as Triton's model repository extension.

They exist only where SERVICE_ADMIN_KEY is set, and need it:
https://docs.nvidia.com/deeplearning/triton-inference-server (protocol, extension_model_repository).
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from pydantic import SecretStr

from bundle.format.manifest import NAME_PATTERN
from service.api import schemas
from service.api.openapi import problems
from service.api.parameters import KNOWN_PARAMETERS
from service.errors import Unauthorized
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


def check_key(expected: SecretStr, headers: Mapping[str, str]) -> None:
    """Check the key in the headers of a request, whose names are in lower case.

    Raises:
        Unauthorized: there is none, or another one.
    """
    scheme, _, token = headers.get("authorization", "").partition(" ")
    found = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
    if not hmac.compare_digest(found.encode(), expected.get_secret_value().encode()):
        raise Unauthorized(
            "This route needs the key of the service (SERVICE_ADMIN_KEY). Expected the header "
            "`Authorization: Bearer KEY` or `X-API-Key: KEY`. "
            f"Received: {'another key' if found else 'none'}"
        )


async def _authorised(request: Request) -> None:
    check_key(request.app.state.settings.admin_key, request.headers)


def entries(registry: Registry) -> list[dict[str, Any]]:
    """Every version with its state in Triton's words, and why it is not ready."""
    return [
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
    responses=problems(401, 422),
    summary="The versions that are loaded, being loaded or refused",
)
async def index(request: Request) -> list[dict[str, Any]]:
    """Every version with its state in Triton's words, and why it is not ready."""
    return entries(request.app.state.registry)


@router.post(
    "/models/{name}/load",
    responses=problems(401, 404, 422, 503),
    summary="Look at the repository now, and load a model",
)
async def load(request: Request, name: ModelName) -> dict[str, str]:
    """Responds when the model serves, or is refused; what served before serves on."""
    lifecycle: Lifecycle = request.app.state.lifecycle
    await lifecycle.load(name)
    return {}


@router.post(
    "/models/{name}/unload",
    responses=problems(401, 404, 422),
    summary="Unload a model",
)
async def unload(request: Request, name: ModelName) -> dict[str, str]:
    """Responds when its processes have ended; it stays so until `load`, or a restart."""
    lifecycle: Lifecycle = request.app.state.lifecycle
    await lifecycle.unload(name)
    return {}
