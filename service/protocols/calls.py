"""What every protocol does with a request: its model, its body, its images, its answer."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from starlette.datastructures import State
from starlette.requests import Request
from starlette.responses import Response

from bundle.scores import calibrated_softmax
from bundle.worker.model_process import Pixels
from service.api import responses, routes
from service.api.disconnect import unless_gone
from service.api.uploads import Reservation
from service.errors import InvalidParameter, MalformedRequest, UnsupportedMediaType
from service.models.batcher import Classification
from service.models.model import ServedModel, Target
from service.repository.registry import Registry

VERSION = re.compile(r"[1-9][0-9]{0,8}")


def find(request: Request) -> ServedModel:
    """The model that the path of a request names, or the default one.

    Raises:
        UnknownModel, UnknownVersion, ModelRefused, NotReady: as `Registry.find`.
        InvalidParameter: the version is no number.
    """
    registry: Registry = request.app.state.registry
    return registry.find(*_named(request), routes.session(request))


def _named(request: Request) -> tuple[str | None, int | None]:
    """The model and the version in the path of a request."""
    version = request.path_params.get("version")
    if version is not None and not VERSION.fullmatch(version):
        raise InvalidParameter(
            f"version: expected a whole number from 1. Received: {version[:100]!r}"
        )
    return request.path_params.get("name"), int(version) if version else None


@contextmanager
def admitted(request: Request) -> Iterator[tuple[Target, Reservation]]:
    """The model that a request is for, and a reservation for its body, which is not read yet.

    Raises:
        QueueFull: the model's queue is full.
        ModelRefused, ModelUnavailable: as `ServedModel.target`.
        UnsupportedMediaType: the body is compressed.
        UnknownModel, UnknownVersion, NotReady, InvalidParameter: as `find`.
    """
    target = routes.choose(request, *_named(request))
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise UnsupportedMediaType(
            "The body is compressed, which this service does not accept. Expected no "
            f"Content-Encoding. Received: {encoding[:100]!r}"
        )
    with target, request.app.state.budget.reserve() as reservation:
        yield target, reservation


def check_count(target: Target, count: int) -> None:
    """Check the number of images of a request.

    Raises:
        MalformedRequest: there are none or too many.
    """
    most = target.model.settings.batch_files
    if not 1 <= count <= most:
        raise MalformedRequest(
            f"Expected 1 to {most} images in one request (SERVICE_MAX_FILES). Received: {count}"
        )


async def classify(
    request: Request, target: Target, images: Sequence[bytes] | Sequence[Pixels]
) -> list[Classification]:
    """The results of the images of a request; the first failure fails it.

    Args:
        request: When its client leaves, the work is dropped.
        target: The model.
        images: Files, or pixels uint8 [H, W, 3] of the model's input size.

    Raises:
        MalformedRequest: there are none or too many.
        QueueFull, ImageError, ServiceError, BundleError: as `Classifier.classify`.
    """
    started = time.perf_counter()
    check_count(target, len(images))
    state: State = request.app.state
    run = state.classify if isinstance(images[0], bytes) else state.classify_pixels
    outcomes = (await unless_gone(request, run(target, images))).images
    found: list[Classification] = []
    for number, outcome in enumerate(outcomes, start=1):
        if isinstance(outcome, Classification):
            found.append(outcome)
        elif len(outcomes) == 1:
            raise outcome
        else:
            text = f"Image {number} of {len(outcomes)}: {outcome}"
            raise type(outcome)(text) from outcome
    timing_ms = responses.timing(found, started)
    found_scores = scores(target, found)
    best = zip(found_scores.max(1).tolist(), found_scores.argmax(1).tolist(), strict=True)
    state.metrics.answered(request.scope, target.model, found, timing_ms, best)
    return found


def scores(target: Target, found: Sequence[Classification]) -> npt.NDArray[np.float64]:
    """Calibrated probabilities [N, C]."""
    logits = np.stack([each.logits for each in found])
    return calibrated_softmax(logits, target.manifest.calibration.temperature)


def answer(content: Any) -> Response:
    """A JSON response."""
    return Response(msgspec.json.encode(content), media_type="application/json")
