"""Measure the artifacts of a bundle: accuracy, differences from the source, and speed.

Every artifact is measured on the same images, through the process that serves it.
"""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bundle.acceleration.accuracy import accuracy_metric
from bundle.errors import BundleError, GoldenMismatch, RuntimeUnavailable, WorkerDied
from bundle.format.manifest import Artifact, Manifest
from bundle.machine import cuda_device_name, cuda_devices, processor, usable_cores
from bundle.runtimes import Device
from bundle.scores import baseline
from bundle.worker.blocking import RuntimeProcess
from bundle.worker.selection import DEVICE_NAMES, RUNTIME_NAMES
from bundle.worker.selftest import golden_differences

TIMEOUT_S = 300.0  # to load, and for one forward pass
# Errors that concern one artifact and not the others.
DOES_NOT_RUN = (RuntimeUnavailable, GoldenMismatch, WorkerDied)
# The tolerance of an accelerated artifact's self-test: a multiple of the difference measured here,
# and a margin for other processors.
TOLERANCE_FACTOR, TOLERANCE_MARGIN = 2.0, 0.02
MAX_TOLERANCE = 0.5
BATCHES = (1, 2, 4, 8, 16, 32)  # images per forward pass
ROUNDS = 3
# Time for one artifact with one batch size in each round; one call at least.
TURN_S = 0.1
# A batch size with this share of the best throughput is as good, and has the shorter latency.
GOOD_ENOUGH = 0.97

PRECISIONS = ("fp32", "bf16", "fp16", "int8")

Pixels = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]


def measured_devices() -> tuple[Device, ...]:
    """The devices of this machine, the CPU first."""
    return ("cpu", "cuda") if cuda_devices() else ("cpu",)


def hardware_name(device: str) -> str:
    """The processor or the CUDA device of this machine."""
    return cuda_device_name() if device == "cuda" else processor()


@dataclass(frozen=True)
class LabelledImages:
    """Images that the accuracy is measured on."""

    pixels: Pixels  # [N, H, W, 3]
    labels: npt.NDArray[np.int64]  # [N]


@dataclass(frozen=True)
class Acceleration:
    """What faster artifacts are made with and measured on."""

    # Images as in training, [N, H, W, 3], for the ranges of int8, a few hundred; None: no int8.
    calibration: Pixels | None = None
    # None: no accuracy is measured; artifacts are compared on the calibration or golden images.
    test: LabelledImages | None = None
    precisions: tuple[str, ...] = PRECISIONS  # of the artifacts to make
    threads: int | None = None  # CPU threads; None: all
    devices: tuple[Device, ...] = field(default_factory=measured_devices)
    turn_s: float = TURN_S  # seconds
    hardware: Callable[[str], str] = hardware_name  # by device


class Running(NamedTuple):
    """An artifact in its process, on one device."""

    artifact: Artifact
    process: RuntimeProcess
    logits: Logits | None = None  # on the test images, where they are known already


class Result(NamedTuple):
    """The output of an artifact on one device."""

    logits: Logits  # [N, C], of the images that all artifacts are compared on
    golden_difference: float  # the largest in the self-test


class Measured(NamedTuple):
    """The fields of the manifest that depend on the measurement."""

    artifacts: list[dict[str, Any]]
    metrics: list[dict[str, Any]]
    baseline: dict[str, Any] | None


def measure(
    running: Sequence[Running],
    manifest: Manifest,
    golden: Pixels,
    options: Acceleration,
    left_out: list[str],
    progress: Callable[[str], object],
) -> Measured:
    """Measure artifacts that are loaded.

    Of two devices the larger differences and the lower accuracy are recorded. An artifact that
    fails on the images is left out, unless it is the source on the CPU.

    Args:
        running: The artifacts, beginning with the source on the CPU.
        manifest: The record of the bundle, whose golden scores and metrics apply.
        golden: The golden images, uint8 [G, H, W, 3].
        options: The images, and how the speed is measured.
        left_out: Gets a line for each artifact that is left out.
        progress: Is called with what is being done.

    Raises:
        BundleError: The source fails on the images, or a process dies during the speed measurement.
    """
    test, calibration = options.test, options.calibration
    compared = test.pixels if test else calibration if calibration is not None else golden
    metrics = [
        m.model_dump(mode="json") for m in manifest.metrics if m.name != "accuracy" or not test
    ]
    results: dict[str, list[Result]] = {}
    kept: list[Running] = []
    for each in running:
        artifact, process, logits = each
        device = process.info["device"]
        progress(f"measuring {artifact.id} on {len(compared):,} images, {device}")
        try:
            if logits is None:
                logits = process.infer_all(compared, TIMEOUT_S)
            golden_logits = process.infer_all(golden, TIMEOUT_S)
            difference = _golden_difference(manifest, artifact, golden_logits)
        except DOES_NOT_RUN as exc:
            leave_out(artifact, device, exc, left_out)
        else:
            results.setdefault(artifact.id, []).append(Result(logits, difference))
            kept.append(each)
    progress("measuring the speed of each")
    speeds = measure_speed([each.process for each in kept], compared, options)
    of_source = results[manifest.source.id][0]
    records = []
    for artifact in {each.artifact.id: each.artifact for each in kept}.values():
        own = results[artifact.id]
        record = artifact.model_dump(mode="json")
        record["speeds"] = [
            speed
            for each, speed in zip(kept, speeds, strict=True)
            if each.artifact.id == artifact.id
        ]
        if not artifact.source:
            record["derivation"] = _derivation(artifact, own, of_source, calibration)
        records.append(record)
        if test:
            worst = min((result.logits for result in own), key=lambda each: _correct(each, test))
            runtime = RUNTIME_NAMES[artifact.format]
            metrics.append(
                accuracy_metric(worst, test.labels, runtime, artifact.precision, manifest.labels)
            )
    expected = manifest.baseline.model_dump() if manifest.baseline else None
    if test and expected is None:
        expected = baseline(of_source.logits, manifest.calibration.temperature, "test")
    return Measured(records, metrics, expected)


def leave_out(artifact: Artifact, device: str, error: BundleError, left_out: list[str]) -> None:
    """Add `artifact` on `device` to `left_out`. For the source on the CPU `error` is raised."""
    if artifact.source and device == "cpu":
        raise error
    left_out.append(f"{artifact.id} on {DEVICE_NAMES[device]}: {error}")


def measure_speed(
    processes: Sequence[RuntimeProcess], pixels: Pixels, options: Acceleration
) -> list[dict[str, Any]]:
    """A Speed record for each of `processes`, interleaved, so that other load affects all alike.

    Args:
        processes: The loaded artifacts.
        pixels: uint8 [N, H, W, 3], repeated as needed.
        options: Threads and length of a turn.

    Raises:
        BundleError: A process died, or fails on the images.
    """
    inputs = {size: np.ascontiguousarray(pixels[np.arange(size) % len(pixels)]) for size in BATCHES}
    seconds: list[dict[int, list[float]]] = [{size: [] for size in BATCHES} for _ in processes]
    for process in processes:  # warm-up: the first call with a new shape creates the kernels for it
        for batch in inputs.values():
            process.infer(batch, TIMEOUT_S)
    for _ in range(ROUNDS):
        for process, found in zip(processes, seconds, strict=True):
            for size, batch in inputs.items():
                found[size].append(_turn(process, batch, options.turn_s))
    return [
        _speed(
            {size: median(taken) for size, taken in found.items()},
            process.info["device"],
            options,
        )
        for process, found in zip(processes, seconds, strict=True)
    ]


def _turn(process: RuntimeProcess, batch: Pixels, turn_s: float) -> float:
    """The median time of one forward pass in seconds, the round trip to the process included."""
    calls: list[float] = []
    started = time.perf_counter()
    while not calls or time.perf_counter() - started < turn_s:
        before = time.perf_counter()
        process.infer(batch, TIMEOUT_S)
        calls.append(time.perf_counter() - before)
    return median(calls)


def _speed(seconds: dict[int, float], device: str, options: Acceleration) -> dict[str, Any]:
    rates = {size: size / taken for size, taken in seconds.items()}
    best = next(size for size, rate in rates.items() if rate >= GOOD_ENOUGH * max(rates.values()))
    return {
        "device": device,
        "hardware": options.hardware(device),
        "threads": options.threads or usable_cores(),
        "latency_ms": seconds[1] * 1000,
        "batch_size": best,
        "images_per_second": rates[best],
    }


def _correct(logits: Logits, test: LabelledImages) -> int:
    return int((logits.argmax(1) == test.labels).sum())


def _derivation(
    artifact: Artifact, own: list[Result], of_source: Result, calibration: Pixels | None
) -> dict[str, Any]:
    observed = max(result.golden_difference for result in own)
    best = of_source.logits.argmax(1)
    quantized_with = calibration if artifact.precision == "int8" else None
    packages = ["openvino"] if artifact.format == "openvino" else ["torch"]
    packages += [] if quantized_with is None else ["nncf"]
    return {
        "versions": {package: importlib.metadata.version(package) for package in packages},
        "calibration_samples": 0 if quantized_with is None else len(quantized_with),
        "compared_samples": len(of_source.logits),
        "max_logit_difference": max(
            float(np.abs(result.logits - of_source.logits).max()) for result in own
        ),
        "top1_agreement": min(float((result.logits.argmax(1) == best).mean()) for result in own),
        "golden_tolerance": min(MAX_TOLERANCE, TOLERANCE_FACTOR * observed + TOLERANCE_MARGIN),
    }


def _golden_difference(manifest: Manifest, artifact: Artifact, logits: Logits) -> float:
    """The largest score difference on the golden images, for the logits [G, C] of an artifact.

    Raises:
        GoldenMismatch: It is more than the self-test of any artifact allows.
    """
    largest = max(
        difference.size
        for sample, row in zip(manifest.golden.samples, logits, strict=True)
        for difference in golden_differences(sample, row, manifest.calibration.temperature)
    )
    if not largest <= MAX_TOLERANCE and not artifact.source:
        raise GoldenMismatch(
            f"A score of a golden image differs by {largest:.2g}. Expected at most {MAX_TOLERANCE}."
        )
    return largest
