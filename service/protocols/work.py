"""What every protocol does with a request, over HTTP or gRPC: its model, its images, its scores."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from starlette.datastructures import State

from bundle.scores import calibrated_softmax
from bundle.worker.model_process import Pixels
from service.api import responses, routes
from service.api.headers import within
from service.api.uploads import Reservation
from service.errors import InvalidParameter, MalformedRequest
from service.models.model import ServedModel, Target
from service.models.queued import Classification

VERSION = re.compile(r"[1-9][0-9]{0,8}")


class Classified(NamedTuple):
    """The results of the images of a request.

    Attributes:
        images: One of each.
        scores: Calibrated probabilities, float64 [N, C].
    """

    images: list[Classification]
    scores: npt.NDArray[np.float64]


class Call(NamedTuple):
    """What a request asks for: a version of a model, and in which time."""

    state: State  # of the application
    known: dict[str, Any]  # of the request, for its log line and its trace
    name: str | None  # None: the default model
    version: str | None
    session: str | None
    timeout_s: float | None = None  # None: the client sets none

    @property
    def number(self) -> int | None:
        """The number of the version.

        Raises:
            InvalidParameter: it is no number.
        """
        if self.version is not None and not VERSION.fullmatch(self.version):
            raise InvalidParameter(
                f"version: expected a whole number from 1. Received: {self.version[:100]!r}"
            )
        return int(self.version) if self.version else None


def find(call: Call) -> ServedModel:
    """The version of a model that a request names, or the default one.

    Raises:
        UnknownModel, UnknownVersion, ModelRefused, NotReady: as `Registry.find`.
        InvalidParameter: the version is no number.
    """
    model: ServedModel = call.state.registry.find(call.name, call.number, call.session)
    return model


@asynccontextmanager
async def admitted(call: Call) -> AsyncIterator[tuple[Target, Reservation]]:
    """The model that a request is for, and a reservation for its body, which is not read yet.

    What runs inside is cancelled at the deadline of the request.

    Raises:
        QueueFull: the model's queue is full.
        DeadlineUnreachable: what waits takes longer than the request has time.
        DeadlineExceeded: there was no result in time.
        ModelRefused, ModelUnavailable: as `ServedModel.target`.
        UnknownModel, UnknownVersion, NotReady, InvalidParameter: as `find`.
    """
    target = routes.choose(
        call.state, call.known, call.name, call.number, call.session, call.timeout_s
    )
    async with within(call.timeout_s) if call.timeout_s else nullcontext():
        with target, call.state.budget.reserve() as reservation:
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
    state: State, known: dict[str, Any], target: Target, images: Sequence[bytes] | Sequence[Pixels]
) -> Classified:
    """The results of the images of a request; the first failure fails it.

    Args:
        state: Of the application.
        known: Of the request.
        target: The model.
        images: Files, or pixels uint8 [H, W, 3] of the model's input size.

    Raises:
        MalformedRequest: there are none or too many.
        QueueFull, ImageError, ServiceError, BundleError: as `Classifier.classify`.
    """
    started = time.perf_counter()
    check_count(target, len(images))
    run = state.classify if isinstance(images[0], bytes) else state.classify_uncached
    outcomes = (await run(target, images)).images
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
    logits = np.stack([each.logits for each in found])
    scores = calibrated_softmax(logits, target.manifest.calibration.temperature)
    best = zip(scores.max(1).tolist(), scores.argmax(1).tolist(), strict=True)
    state.metrics.answered(known, target.model, found, timing_ms, best)
    return Classified(found, scores)
