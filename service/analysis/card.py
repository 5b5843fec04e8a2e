"""`GET /models/{name}/card`: what was measured of a model, as its bundle records it."""

from __future__ import annotations

import hashlib
from operator import attrgetter
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, Field

from bundle.format.card import Card, CardData, CardEvaluation, Comparison
from bundle.format.manifest import NAME_PATTERN, Artifact, Conformal, Manifest, Rejection
from bundle.worker.selection import accuracy_record
from service.api.openapi import problems
from service.api.parameters import KNOWN_PARAMETERS, VersionQuery
from service.errors import ModelUnavailable, NoCard
from service.models.model import ServedModel
from service.repository.registry import Registry

router = APIRouter(generate_unique_id_function=attrgetter("name"))


class CardArtifact(BaseModel):
    """One runnable form of the model; null where it was not measured."""

    id: str
    precision: str
    accuracy: float | None
    interval_95: tuple[float, float] | None
    latency_ms: float | None = Field(description="One image alone, on a CPU.")
    images_per_second: float | None = Field(description="At its best batch size, on a CPU.")
    bytes: int = Field(description="Of its files.")


class ModelCard(BaseModel):
    """The recorded evaluation of one version of a model; nothing is computed for the request."""

    name: str
    version: int
    description: str
    licence: str | None = Field(description="Of the model; null: not recorded.")
    limits: list[str] = Field(description="What to keep in mind, in words.")
    data: CardData
    evaluations: list[CardEvaluation] = Field(
        description="`confusion` has [true class, predicted class, images], zeros left out."
    )
    rejection: Rejection | None
    conformal: Conformal | None
    artifacts: list[CardArtifact]
    comparisons: list[Comparison] = Field(
        description="With other models; `p_value` is that of the exact McNemar test."
    )


@router.get(
    "/models/{name}/card",
    response_model=ModelCard,
    responses=problems(401, 404, 422, 503),
    dependencies=KNOWN_PARAMETERS,
    summary="The model card",
    tags=["models"],
)
def card(
    request: Request,
    name: Annotated[str, Path(pattern=rf"^{NAME_PATTERN}$", description="Name of the model.")],
    version: VersionQuery = None,
) -> dict[str, Any]:
    """Accuracy by class, confusion, reliability, limits: as measured when the bundle was made."""
    registry: Registry = request.app.state.registry
    model = registry.find(name, version)
    manifest = model.manifest
    if manifest is None or manifest.card is None:
        raise NoCard(
            "The bundle of this model has no model card. Expected one that was evaluated: "
            f"`python -m bundle evaluate`. Received: {model.name}/{model.version}"
        )
    found = _read(model, manifest, manifest.card)
    return {
        "name": model.name,
        "version": model.version,
        "description": manifest.description,
        **found.model_dump(exclude={"schema_version"}),
        "rejection": manifest.rejection,
        "conformal": manifest.conformal,
        "artifacts": [_artifact(manifest, artifact) for artifact in manifest.artifacts],
    }


def _read(model: ServedModel, manifest: Manifest, file: str) -> Card:
    """The card, if it is the one that the manifest lists.

    Raises:
        ModelUnavailable: The file was changed or removed since the model was loaded.
    """
    try:
        content = (model.path / file).read_bytes()
    except OSError:
        content = b""
    if hashlib.sha256(content).hexdigest() != manifest.files[file].sha256:
        raise ModelUnavailable(
            "The card is not the one that the manifest lists: the bundle has changed since it was "
            f"loaded. Try again once its version has been reloaded. Received: {model.name}"
        )
    return Card.model_validate_json(content)


def _artifact(manifest: Manifest, artifact: Artifact) -> dict[str, Any]:
    metric = accuracy_record(manifest, artifact)
    speed = artifact.speed("cpu")
    # An IR has its weights beside it, a SavedModel is a folder.
    stem = artifact.path.removesuffix(".xml")
    files = [
        each.size
        for path, each in manifest.files.items()
        if path.startswith((f"{artifact.path}/", f"{stem}.")) or path == artifact.path
    ]
    return {
        "id": artifact.id,
        "precision": artifact.precision,
        "accuracy": metric and metric.value,
        "interval_95": metric and metric.interval_95,
        "latency_ms": speed and speed.latency_ms,
        "images_per_second": speed and speed.images_per_second,
        "bytes": sum(files),
    }
