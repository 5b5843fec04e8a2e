"""The query parameters of the routes, and the refusal of all others."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated, Literal

from fastapi import Depends, Query, Request
from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from bundle.format.manifest import NAME_PATTERN
from service.errors import NoPredictionSets, UnknownParameter
from service.models.model import Target

NameQuery = Annotated[
    str | None,
    Query(
        alias="model",
        pattern=rf"^{NAME_PATTERN}$",
        description="Name of the model; default: the default model.",
    ),
]


def _number_or_alias(value: object, validate: ValidatorFunctionWrapHandler) -> object:
    """One sentence, in place of one for each type that it might have been."""
    try:
        return validate(value)
    except ValidationError as exc:
        raise ValueError("expected a whole number from 1, `stable` or `canary`") from exc


Version = Annotated[int, Field(ge=1)] | Literal["stable", "canary"]
VersionQuery = Annotated[
    Version | None,
    WrapValidator(_number_or_alias),
    Query(
        description="Version of the model, or an alias that its traffic has; default: what the "
        "traffic says, or the newest one that serves."
    ),
]
TopKQuery = Annotated[
    int | None,
    Query(ge=1, description="Number of predictions; default: 5, or all classes if fewer."),
]
CropQuery = Annotated[
    Literal["center", "whole"] | None,
    Query(
        description="`whole`: the whole picture, stretched to the input, where that was measured "
        "(docs/explain.md); default: the crop that the model was trained with."
    ),
]
LOWEST_COVERAGE, HIGHEST_COVERAGE = 0.5, 0.99
CoverageQuery = Annotated[
    float | None,
    Query(
        ge=LOWEST_COVERAGE,
        le=HIGHEST_COVERAGE,
        description="Adds the set of labels that holds the right one in this share of the cases, "
        "by measurement; rounded up to hundredths.",
    ),
]


def check_coverage(coverage: float, target: Target) -> None:
    """Raise if a model has no prediction sets.

    Raises:
        NoPredictionSets: They were not measured.
    """
    if target.manifest.conformal is None:
        raise NoPredictionSets(
            f"coverage: prediction sets were not measured for {target.model.name}. Expected a "
            "model with them, or no coverage; `python -m bundle evaluate` measures them. "
            f"Received: {coverage:g}"
        )


async def _known_parameters(request: Request) -> None:
    """Refuse an unknown query parameter: ignored, it would change what the client meant.

    Raises:
        UnknownParameter: there is one; the detail names the closest known one.
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


KNOWN_PARAMETERS = [Depends(_known_parameters)]
