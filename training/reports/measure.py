"""Measure bundles through the served path: logits of the test images, and latency."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.acceleration.measure import TIMEOUT_S
from bundle.errors import BundleError
from bundle.format.manifest import Manifest
from bundle.worker.blocking import RuntimeProcess
from bundle.worker.responses import RuntimeInfo
from training.reports.statistics import latency

CALLS = 20  # with one image, per round
LARGE_BATCH = 32  # images of the throughput measurement; the default maximum batch of the service
WARM_UP = 3

Advance = Callable[[int], None]


@dataclass(frozen=True)
class LeftOut:
    """A bundle that is not in the comparison, and why; `code` is a stable error code."""

    path: Path
    code: str
    reason: str


@dataclass
class Running:
    """One loaded artifact: its process, the images in its geometry and the measurements so far."""

    directory: Path
    process: RuntimeProcess
    info: RuntimeInfo
    pixels: NDArray[np.uint8]  # [N, H, W, 3]
    logits: NDArray[np.float32]  # [N, C], classes in the order of the data
    latency: dict[str, Any] | None = None


@dataclass(frozen=True)
class Candidate:
    """A bundle with a readable manifest."""

    path: Path
    manifest: Manifest


@dataclass(frozen=True)
class Measured:
    """A bundle with its measured artifacts; the source artifact comes first."""

    candidate: Candidate
    running: list[Running]

    @property
    def source(self) -> Running:
        """The artifact exported by the training framework; its figures are those of the model."""
        return self.running[0]


def start(
    process: RuntimeProcess,
    candidate: Candidate,
    classes: Sequence[str],
    pixels: NDArray[np.uint8],
    advance: Advance,
) -> Running:
    """Load the model of `process` and run it on every image.

    Args:
        classes: of the data: the labels of the bundle, in any order.
        pixels: uint8 [N, H, W, 3].
        advance: called after each batch with its number of images.

    Raises:
        BundleError: the bundle does not load, or fails on an image.
    """
    info = process.start(TIMEOUT_S)
    order = [candidate.manifest.labels.index(name) for name in classes]

    def progress(batches: list[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
        for batch in batches:
            yield batch
            advance(len(batch))

    logits = process.infer_all(pixels, TIMEOUT_S, progress)
    return Running(candidate.path, process, info, pixels, logits[:, order])


def time_together(running: Sequence[Running], rounds: int, advance: Advance) -> list[LeftOut]:
    """Measure `latency` of each model in interleaved rounds; returns the models that failed.

    Each round starts with another model, so that a slow period or the warm-up of the machine
    affects all of them alike.
    """
    singles: dict[int, list[list[float]]] = {i: [] for i in range(len(running))}
    batches: dict[int, list[float]] = {i: [] for i in range(len(running))}
    failed: dict[int, LeftOut] = {}
    for turn in range(-1, rounds):  # turn -1 is the warm-up and does not count
        calls = CALLS if turn >= 0 else WARM_UP
        for i in np.roll(np.arange(len(running)), -turn).tolist():
            if i in failed:
                continue
            try:
                one_by_one = [_seconds(running[i], np.array([call])) for call in range(calls)]
                together = _seconds(running[i], np.arange(LARGE_BATCH))
            except BundleError as exc:
                failed[i] = LeftOut(running[i].directory, exc.code, str(exc))
                continue
            if turn >= 0:
                singles[i].append(one_by_one)
                batches[i].append(together)
                advance(CALLS + LARGE_BATCH)
    for i, model in enumerate(running):
        if i not in failed:
            model.latency = latency(singles[i], batches[i], LARGE_BATCH)
    return list(failed.values())


def _seconds(running: Running, chosen: NDArray[np.int64]) -> float:
    """Seconds of one forward pass over the images at `chosen`, transfer to the process included."""
    pixels = running.pixels[chosen % len(running.pixels)]
    started = time.perf_counter()
    running.process.infer(pixels, TIMEOUT_S)
    return time.perf_counter() - started
