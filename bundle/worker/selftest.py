"""The self-test of a loaded model: the golden pictures, through the serving path, against the recorded scores."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bundle.errors import GoldenMismatch, ImageError, RuntimeUnavailable
from bundle.format.manifest import Artifact, GoldenSample, Manifest
from bundle.imaging.decode import read_input
from bundle.runtimes import Model, describe
from bundle.scores import calibrated_softmax


class Difference(NamedTuple):
    """What the model and the record say of one class of a golden picture."""

    label: str
    found: float
    recorded: float
    at_one: bool  # scores at temperature 1 among the recorded classes, and not those that the bundle records

    @property
    def size(self) -> float:
        """The absolute difference of both scores."""
        return abs(self.found - self.recorded)


def run_golden(directory: Path, manifest: Manifest, artifact: Artifact, model: Model) -> float:
    """Classify every golden picture and compare; return the largest absolute difference of scores.

    Each picture goes the way of an upload: decode, geometry, the model, calibrated softmax; the scores are compared
    as :func:`golden_differences` has them. ``explain`` runs on the same pixels, must give the same logits, and a heat
    map of the recorded size. The source artifact is held to the tolerance of the golden samples, an accelerated one to
    its own.
    Raises :class:`GoldenMismatch` with the file and both values, :class:`RuntimeUnavailable` when the model
    fails or answers in another shape.
    """
    largest = 0.0
    tolerance = golden_tolerance(manifest, artifact)
    for sample in manifest.golden.samples:
        try:
            image = read_input((directory / sample.file).read_bytes(), manifest.input)
        except ImageError as exc:
            raise GoldenMismatch(
                f"A golden picture is refused: {exc} File: {sample.file!r}"
            ) from exc
        logits = _checked_logits(manifest, model, image.pixels[None], sample.top[0].index)
        for difference in golden_differences(sample, logits[0], manifest.calibration.temperature):
            if not difference.size <= tolerance:
                raise GoldenMismatch(_mismatch(sample.file, artifact, difference, tolerance))
            largest = max(largest, difference.size)
    return largest


def golden_differences(
    sample: GoldenSample, logits: npt.NDArray[np.float32], temperature: float
) -> list[Difference]:
    """Compare logits [C] with the recorded scores at the bundle's temperature, and at temperature 1.

    A high temperature makes the scores of every network alike. The record holds more than they show: the difference
    of two logits is ``temperature * (log s_i - log s_j)``, which gives the scores at temperature 1 among the recorded
    classes. A score that is recorded as 0 has lost its logit, and has no part in these.
    """
    classes = np.array([answer.index for answer in sample.top])
    recorded = np.array([answer.score for answer in sample.top])
    kept = np.flatnonzero(recorded)
    scores = calibrated_softmax(logits, temperature)[classes]
    differences = [
        Difference(answer.label, float(score), answer.score, at_one=False)
        for answer, score in zip(sample.top, scores, strict=True)
    ]
    if kept.size:
        found = calibrated_softmax(logits[classes[kept]], 1.0)
        expected = calibrated_softmax(temperature * np.log(recorded[kept]), 1.0)
        differences += [
            Difference(sample.top[i].label, float(score), float(of_record), at_one=True)
            for i, score, of_record in zip(kept, found, expected, strict=True)
        ]
    return differences


def _mismatch(file: str, artifact: Artifact, difference: Difference, tolerance: float) -> str:
    model = (
        "At temperature 1, among the recorded classes, the model"
        if difference.at_one
        else "The model"
    )
    remedy = "Export the model" if artifact.source else "Run `python -m bundle accelerate`"
    return (
        f"{model} scores {difference.label!r} as {difference.found:.6f}; the bundle records {difference.recorded:.6f} "
        f"with tolerance {tolerance:g}. {remedy} again, or install the recorded version of the runtime. File: {file!r}"
    )


def golden_tolerance(manifest: Manifest, artifact: Artifact) -> float:
    """The largest difference of a score that the self-test of ``artifact`` allows."""
    return (
        artifact.derivation.golden_tolerance if artifact.derivation else manifest.golden.tolerance
    )


def _checked_logits(
    manifest: Manifest,
    model: Model,
    pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
    index: int,
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Logits [1, C] of both methods, after their shapes, dtypes and agreement are checked."""
    try:
        logits = model.infer(pixels)
        again, heatmap = model.explain(pixels, np.array([index], dtype=np.int64))
    except Exception as exc:  # the frameworks raise every kind
        raise RuntimeUnavailable(
            f"The model fails on a golden picture. Export it again. Received: {describe(exc)}"
        ) from exc
    size = manifest.architecture.feature_map
    expected = [(1, len(manifest.labels)), (1, len(manifest.labels)), (1, size.height, size.width)]
    found = [array.shape for array in (logits, again, heatmap)]
    if found != expected or any(array.dtype != np.float32 for array in (logits, again, heatmap)):
        raise RuntimeUnavailable(
            f"The model answers in another shape. Expected float32 {expected} for logits, explain's logits "
            f"and heat map. Received: {[f'{array.dtype} {array.shape}' for array in (logits, again, heatmap)]}"
        )
    if not (np.isfinite(logits).all() and np.isfinite(heatmap).all()):
        raise RuntimeUnavailable(
            "The model answers NaN or infinity on a golden picture. Train it again."
        )
    if not np.allclose(logits, again, rtol=1e-3, atol=1e-3):
        raise GoldenMismatch(
            "The model's explain gives other logits than its forward. Export it again. "
            f"Largest difference: {float(np.abs(logits - again).max()):.6f}"
        )
    return logits
