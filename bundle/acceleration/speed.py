"""How fast loaded artifacts are on this machine: one image alone, and the batch size that pays best."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from bundle.machine import cuda_device_name, processor, usable_cores
from bundle.worker.blocking import RuntimeProcess

BATCHES = (1, 2, 4, 8, 16, 32)  # images per forward pass
ROUNDS = 3
TURN_S = 0.1  # of one artifact with one batch size, in each round; one call at least
ENOUGH = 0.97  # a batch size that gives this share of the best is as good, and answers sooner
CALL_TIMEOUT_S = 300.0


def measure(
    running: Sequence[RuntimeProcess], pixels: npt.NDArray[np.uint8], threads: int | None
) -> list[dict[str, Any]]:
    """A Speed record for each of ``running``, which take turns so that a slow spell of the machine meets all alike.

    Args:
        pixels: uint8 [N, H, W, 3], repeated as needed.

    Raises:
        BundleError: a process died, or fails on the images.
    """
    inputs = {size: np.ascontiguousarray(pixels[np.arange(size) % len(pixels)]) for size in BATCHES}
    seconds: list[dict[int, list[float]]] = [{size: [] for size in BATCHES} for _ in running]
    for process in running:  # warm up: the first call with a new shape makes the kernels for it
        for batch in inputs.values():
            process.infer(batch, CALL_TIMEOUT_S)
    for _ in range(ROUNDS):
        for process, found in zip(running, seconds, strict=True):
            for size, batch in inputs.items():
                found[size].append(_turn(process, batch))
    return [
        _record(
            {size: median(taken) for size, taken in found.items()}, process.info["device"], threads
        )
        for process, found in zip(running, seconds, strict=True)
    ]


def _turn(process: RuntimeProcess, batch: npt.NDArray[np.uint8]) -> float:
    """The median time of one forward pass, the way to the process and back included."""
    calls: list[float] = []
    started = time.perf_counter()
    while not calls or time.perf_counter() - started < TURN_S:
        before = time.perf_counter()
        process.infer(batch, CALL_TIMEOUT_S)
        calls.append(time.perf_counter() - before)
    return median(calls)


def _record(seconds: dict[int, float], device: str, threads: int | None) -> dict[str, Any]:
    rates = {size: size / taken for size, taken in seconds.items()}
    best = next(size for size, rate in rates.items() if rate >= ENOUGH * max(rates.values()))
    return {
        "device": device,
        "hardware": cuda_device_name() if device == "cuda" else processor(),
        "threads": threads or usable_cores(),
        "latency_ms": seconds[1] * 1000,
        "batch_size": best,
        "images_per_second": rates[best],
    }
