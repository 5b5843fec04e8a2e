"""Measuring bundles through the served path: their answers to the test images, and how long an answer takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.batches import in_batches
from bundle.errors import BundleError
from bundle.format.manifest import Manifest
from bundle.worker.blocking import RuntimeInfo, RuntimeProcess
from training.export.evaluate import BATCH_TIMEOUT_S, LOAD_TIMEOUT_S
from training.reports.statistics import latency

CALLS = 20  # with one image, per round
LARGE_BATCH = (
    32  # images of the throughput measurement; what the service gathers at most by default
)
WARM_UP = 3

Advance = Callable[[int], Any]


@dataclass(frozen=True)
class LeftOut:
    """What is not in the comparison, and why; `code` is stable, for machines."""

    path: Path
    code: str
    reason: str


@dataclass
class Running:
    """One artifact of a bundle, loaded: its process, the images in its geometry, and what was measured so far."""

    directory: Path
    process: RuntimeProcess
    info: RuntimeInfo
    pixels: NDArray[np.uint8]  # [N, H, W, 3]
    logits: NDArray[np.float32]  # [N, C], classes in the order of the data
    latency: dict[str, Any] | None = None


@dataclass(frozen=True)
class Candidate:
    """A bundle whose record can be read and whose labels are the classes of the data."""

    path: Path
    manifest: Manifest


@dataclass(frozen=True)
class Measured:
    """A bundle with its artifacts, loaded and measured; the source artifact comes first."""

    candidate: Candidate
    running: list[Running]

    @property
    def source(self) -> Running:
        """The artifact that the training framework exported: the model's figures are its figures."""
        return self.running[0]


def start(
    process: RuntimeProcess,
    directory: Path,
    manifest: Manifest,
    classes: Sequence[str],
    pixels: NDArray[np.uint8],
    advance: Advance,
) -> Running:
    """Load the model that `process` is for and ask it about every image.

    Args:
        classes: of the data: the labels of the bundle, in any order.
        advance: called with the number of images that were answered.

    Raises:
        BundleError: the bundle does not load, or fails on an image.
    """
    info = process.start(LOAD_TIMEOUT_S)
    order = [manifest.labels.index(name) for name in classes]
    parts = []
    for part in in_batches(pixels):
        parts.append(process.infer(part, BATCH_TIMEOUT_S))
        advance(len(parts[-1]))
    return Running(directory, process, info, pixels, np.concatenate(parts)[:, order])


def time_together(running: Sequence[Running], rounds: int, advance: Advance) -> list[LeftOut]:
    """Fill in `latency` of each model; returns those that failed meanwhile, which have none.

    The models take turns within each round, starting with another one each time, so that a slow spell of the machine
    or its warming up meets all of them alike.
    """
    singles: dict[int, list[list[float]]] = {i: [] for i in range(len(running))}
    batches: dict[int, list[float]] = {i: [] for i in range(len(running))}
    failed: dict[int, LeftOut] = {}
    for turn in range(-1, rounds):  # the turn before the first is the warm-up, and does not count
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
    """The time of one forward pass over the images at `chosen`, the way to the process and back included."""
    pixels = running.pixels[chosen % len(running.pixels)]
    started = time.perf_counter()
    running.process.infer(pixels, BATCH_TIMEOUT_S)
    return time.perf_counter() - started
