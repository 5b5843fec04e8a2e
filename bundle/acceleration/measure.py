"""What the artifacts of a bundle are worth: each asked about the same images, through the process that serves it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bundle.acceleration import speed
from bundle.acceleration.accuracy import accuracy_metric
from bundle.errors import BundleError, GoldenMismatch, RuntimeUnavailable, WorkerDied
from bundle.format.manifest import Artifact, Manifest
from bundle.imaging.decode import read_input
from bundle.worker.blocking import RuntimeProcess
from bundle.worker.selection import DEVICE_NAMES, RUNTIME_NAMES
from bundle.worker.selftest import golden_differences

TIMEOUT_S = 300.0  # to load, and for one forward pass
DOES_NOT_RUN = (
    RuntimeUnavailable,
    GoldenMismatch,
    WorkerDied,
)  # one artifact, which says nothing of the others
# The self-test allows an accelerated artifact twice what it differed by here, and something for other processors.
TOLERANCE_FACTOR, TOLERANCE_ROOM = 2.0, 0.02
LARGEST_TOLERANCE = 0.5

Pixels = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TestImages:
    """Images that the accuracy is measured on."""

    pixels: Pixels  # [N, H, W, 3]
    labels: npt.NDArray[np.int64]  # [N]


class Answers(NamedTuple):
    """What an artifact answers on one device."""

    logits: Logits  # [N, C], of the images that all are compared on
    golden_difference: float  # the largest of the self-test


def measure(
    draft: Path,
    manifest: Manifest,
    running: list[tuple[Artifact, RuntimeProcess]],
    calibration: Pixels | None,
    test: TestImages | None,
    threads: int | None,
    left_out: list[str],
    say: Callable[[str], object],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The artifacts and the metrics of the manifest; ``running`` begins with the source artifact on the CPU.

    Of two devices the record has the larger differences and the lower accuracy. What fails on the images, other than
    the source on the CPU, is left out and named in ``left_out``.

    Raises:
        BundleError: the source fails on the images, or a process dies while the speed is measured.
    """
    golden = _golden_pixels(draft, manifest)
    compared = test.pixels if test else calibration if calibration is not None else golden
    metrics = [
        m.model_dump(mode="json") for m in manifest.metrics if m.name != "accuracy" or not test
    ]
    answers: dict[str, list[Answers]] = {}
    answering: list[tuple[Artifact, RuntimeProcess]] = []
    for artifact, process in running:
        device = process.info["device"]
        say(f"measuring {artifact.id} on {len(compared):,} images, {device}")
        try:
            logits = process.infer_all(compared, TIMEOUT_S)
            difference = _golden_difference(manifest, process.infer_all(golden, TIMEOUT_S))
        except DOES_NOT_RUN as exc:
            leave_out(artifact, device, exc, left_out)
        else:
            answers.setdefault(artifact.id, []).append(Answers(logits, difference))
            answering.append((artifact, process))
    running = answering
    say("measuring the speed of each")
    measured = speed.measure([process for _, process in running], compared, threads)
    of_source = answers[manifest.source.id][0]
    records = []
    for artifact in {of.id: of for of, _ in running}.values():
        own = answers[artifact.id]
        record = artifact.model_dump(mode="json")
        record["speeds"] = [
            found for (of, _), found in zip(running, measured, strict=True) if of.id == artifact.id
        ]
        if not artifact.source:
            record["derivation"] = _derivation(artifact, own, of_source, calibration)
        records.append(record)
        if test:
            worst = min((answer.logits for answer in own), key=lambda logits: _right(logits, test))
            runtime = RUNTIME_NAMES[artifact.format]
            metrics.append(accuracy_metric(worst, test.labels, runtime, artifact.precision))
    return records, metrics


def leave_out(artifact: Artifact, device: str, error: BundleError, left_out: list[str]) -> None:
    """Name what does not run on a device in ``left_out``. The source on the CPU has to run: ``error`` is raised."""
    if artifact.source and device == "cpu":
        raise error
    left_out.append(f"{artifact.id} on {DEVICE_NAMES[device]}: {error}")


def _right(logits: Logits, test: TestImages) -> int:
    return int((logits.argmax(1) == test.labels).sum())


def _derivation(
    artifact: Artifact, own: list[Answers], of_source: Answers, calibration: Pixels | None
) -> dict[str, Any]:
    observed = max(answer.golden_difference for answer in own)
    best = of_source.logits.argmax(1)
    quantised_with = calibration if artifact.precision == "int8" else None
    packages = ["openvino"] if artifact.format == "openvino" else ["torch"]
    packages += [] if quantised_with is None else ["nncf"]
    return {
        "versions": {package: importlib.metadata.version(package) for package in packages},
        "calibration_samples": 0 if quantised_with is None else len(quantised_with),
        "compared_samples": len(of_source.logits),
        "max_logit_difference": max(
            float(np.abs(answer.logits - of_source.logits).max()) for answer in own
        ),
        "top1_agreement": min(float((answer.logits.argmax(1) == best).mean()) for answer in own),
        "golden_tolerance": min(LARGEST_TOLERANCE, TOLERANCE_FACTOR * observed + TOLERANCE_ROOM),
    }


def _golden_difference(manifest: Manifest, logits: Logits) -> float:
    """What the self-test of an artifact with these logits [G, C] of the golden pictures differs by."""
    return max(
        difference.size
        for sample, row in zip(manifest.golden.samples, logits, strict=True)
        for difference in golden_differences(sample, row, manifest.calibration.temperature)
    )


def _golden_pixels(directory: Path, manifest: Manifest) -> Pixels:
    files = [directory / sample.file for sample in manifest.golden.samples]
    return np.stack([read_input(file.read_bytes(), manifest.input).pixels for file in files])
