"""What a worker's frames carry, checked alike by both clients."""

from __future__ import annotations

from typing import Any, TypedDict

import numpy as np

from bundle.errors import BUNDLE_ERRORS, BundleError, RuntimeUnavailable
from bundle.worker.wire import Array


class RuntimeInfo(TypedDict):
    """What a worker reports when it is ready."""

    digest: str  # of the bundle's manifest, as the worker read it
    runtime: str
    runtime_version: str
    precision: str
    device: str
    artifact_id: str
    choice: str  # why this artifact
    streams: int  # forward passes that run at once
    batch_size: int | None  # the fastest in the bundle's measurement; None: not measured
    height: int
    width: int
    classes: int
    heatmap: tuple[int, int] | None  # height and width; None: the model has no heat maps
    golden_max_difference: float
    load_seconds: float


def raise_error(header: dict[str, Any]) -> None:
    """Raise the error that a worker's frame carries, if any."""
    if "error" in header:
        raise BUNDLE_ERRORS.get(header["error"], BundleError)(str(header["detail"]))


def check_shapes(results: list[Array], shapes: list[tuple[int, ...]]) -> None:
    """Raise `RuntimeUnavailable` unless a worker's arrays are float32 of `shapes`."""
    if [array.shape for array in results] != shapes or any(
        array.dtype != np.float32 for array in results
    ):
        raise RuntimeUnavailable(
            f"The model's output has another shape. Expected float32 {shapes}. "
            f"Received: {[f'{array.dtype} {array.shape}' for array in results]}"
        )
