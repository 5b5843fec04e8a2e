"""Where the network looked: the heat map of a class, as numbers or drawn over the picture."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from starlette.datastructures import State

from bundle.format.manifest import Manifest
from bundle.scores import calibrated_softmax, top_k
from bundle.worker.responses import Extras
from service.errors import InvalidParameter, NoHeatmap
from service.models.model import Target
from service.models.queued import Classification


class Class(NamedTuple):
    """Which class a request wants to have explained: by index, or else by its rank."""

    class_index: int | None
    rank: int


class Explained(NamedTuple):
    """A class, and its heat map float32 [h, w] in [0, 1]; what is 0 and 1 in units of logits."""

    class_index: int
    score: float
    heatmap: npt.NDArray[np.float32]
    minimum: float
    maximum: float
    found: Classification


def wanted_class(target: Target, label: str | None, index: int | None, rank: int | None) -> Class:
    """The class that the query of a request names; by default the best one.

    Raises:
        NoHeatmap: The model has no heat maps.
        InvalidParameter: There is no such class, or the query names it in two ways.
    """
    manifest, name = target.manifest, target.model.name
    if manifest.heatmap_size is None:
        raise NoHeatmap(
            f"The bundle of {name} has no heat maps (`heatmap: none` in its record). Expected a "
            "model whose network ends with a global average and one linear layer."
        )
    if sum(each is not None for each in (label, index, rank)) > 1:
        raise InvalidParameter("Expected one of label, index and rank. Received: more than one")
    classes = len(manifest.labels)
    if (index or 0) >= classes or (rank or 1) > classes:
        raise InvalidParameter(
            f"{name} has {classes} classes: expected an index of 0 to {classes - 1}, or a rank of "
            f"1 to {classes}. Received: {index if rank is None else rank}"
        )
    if label is not None:
        index = _index(manifest, label)
    return Class(index, rank or 1)


def _index(manifest: Manifest, label: str) -> int:
    found = [number for number, each in enumerate(manifest.labels) if each == label]
    if len(found) == 1:
        return found[0]
    if found:
        raise InvalidParameter(
            f"label: several classes have this one. Expected the index of one: "
            f"{', '.join(map(str, found))}. Received: {label[:100]!r}"
        )
    raise InvalidParameter(
        "label: the model has no such class. Expected a label of its record, at /models/NAME, or "
        f"an index or a rank. Received: {label[:100]!r}"
    )


async def explain(state: State, target: Target, image: bytes, wanted: Class) -> Explained:
    """Explain a class of an image.

    A class that is wanted by its rank takes two passes, of which the first may come from the cache.

    Args:
        state: Of the application.
        target: The model, which has heat maps.
        image: The file.
        wanted: The class.

    Raises:
        QueueFull, ImageError, ServiceError, BundleError: As `Classifier.classify`.
    """
    temperature = target.manifest.calibration.temperature
    index, before = wanted.class_index, None
    if index is None:
        before = _only(await state.classify(target, [image]))
        scores = calibrated_softmax(before.logits[None], temperature)[0]
        index = top_k(scores, target.manifest.labels, wanted.rank)[-1]["index"]
    found = _only(await state.classify_uncached(target, [image], Extras(index)))
    if before is not None:
        found = found._replace(
            decode_s=before.decode_s + found.decode_s,
            queue_s=before.queue_s + found.queue_s,
            inference_s=before.inference_s + found.inference_s,
        )
    score = float(calibrated_softmax(found.logits[None], temperature)[0][index])
    raw = found.heatmap
    assert raw is not None  # noqa: S101 - it was asked for
    minimum, maximum = float(raw.min()), float(raw.max())
    heatmap = (raw - minimum) / ((maximum - minimum) or 1.0)
    return Explained(index, score, heatmap.astype(np.float32), minimum, maximum, found)


def _only(outcomes: Any) -> Classification:
    (outcome,) = outcomes.images
    if not isinstance(outcome, Classification):
        raise outcome
    return outcome


def as_json(explained: Explained) -> dict[str, Any]:
    """The `heatmap` of a response."""
    height, width = explained.heatmap.shape
    return {
        "height": height,
        "width": width,
        "values": [[round(float(each), 4) for each in row] for row in explained.heatmap],
        "minimum": explained.minimum,
        "maximum": explained.maximum,
    }
