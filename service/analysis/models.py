"""The routes of models: which there are, and the record of each."""

from __future__ import annotations

from operator import attrgetter
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request

from bundle.format.manifest import NAME_PATTERN
from service.api import responses, schemas
from service.api.openapi import problems
from service.api.parameters import KNOWN_PARAMETERS, VersionQuery
from service.api.problems import is_public
from service.repository.registry import Registry

router = APIRouter(generate_unique_id_function=attrgetter("name"))


@router.get(
    "/models",
    response_model=schemas.ModelList,
    responses=problems(401, 422),
    dependencies=KNOWN_PARAMETERS,
    summary="The models and their states",
    tags=["models"],
)
async def models(request: Request) -> dict[str, Any]:
    """Every version that is loaded, being loaded or refused, the latter with the reason."""
    registry: Registry = request.app.state.registry
    return {
        "default": registry.default_name,
        "models": [responses.summary(model) for model in registry.all()],
        "unloaded": sorted(registry.unloaded - registry.models.keys()),
        "traffic": registry.traffic,
        "repository_error": registry.trouble,
    }


@router.get(
    "/models/{name}",
    response_model=schemas.ModelRecord,
    responses=problems(401, 404, 422, 503),
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
    registry: Registry = request.app.state.registry
    return responses.record(registry.find(name, version), provenance=not is_public(request))
