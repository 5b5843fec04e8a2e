"""The self-test of a loaded model: the golden pictures, through the serving path, against the recorded scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bundle.errors import GoldenMismatch, ImageError, RuntimeUnavailable
from bundle.image import read_input
from bundle.manifest import Artifact, Manifest
from bundle.runtimes import Model, describe
from bundle.scores import calibrated_softmax


def run_golden(directory: Path, manifest: Manifest, artifact: Artifact, model: Model) -> float:
    """Classify every golden picture and compare; return the largest absolute difference of scores.

    Each picture goes the way of an upload: decode, geometry, the model, calibrated softmax. ``explain`` runs
    on the same pixels, must give the same logits, and a heat map of the recorded size. The source artifact is
    held to the tolerance of the golden samples, an accelerated one to its own.
    Raises :class:`GoldenMismatch` with the file and both values, :class:`RuntimeUnavailable` when the model
    fails or answers in another shape.
    """
    largest = 0.0
    tolerance = golden_tolerance(manifest, artifact)
    for sample in manifest.golden.samples:
        try:
            image = read_input((directory / sample.file).read_bytes(), manifest.input)
        except ImageError as exc:
            raise GoldenMismatch(f"A golden picture is refused: {exc} File: {sample.file!r}") from exc
        logits = _checked_logits(manifest, model, image.pixels[None], sample.top[0].index)
        scores = calibrated_softmax(logits, manifest.calibration.temperature)[0]
        for expected in sample.top:
            score = float(scores[expected.index])
            difference = abs(score - expected.score)
            if not difference <= tolerance:
                raise GoldenMismatch(
                    f"The model scores {expected.label!r} as {score:.6f}; the bundle records "
                    f"{expected.score:.6f} with tolerance {tolerance:g}. Export the model "
                    f"again, or install the recorded version of the runtime. File: {sample.file!r}"
                )
            largest = max(largest, difference)
    return largest


def golden_tolerance(manifest: Manifest, artifact: Artifact) -> float:
    """The largest difference of a score that the self-test of ``artifact`` allows."""
    return artifact.derivation.golden_tolerance if artifact.derivation else manifest.golden.tolerance


def _checked_logits(
    manifest: Manifest, model: Model, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], index: int
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
        raise RuntimeUnavailable("The model answers NaN or infinity on a golden picture. Train it again.")
    if not np.allclose(logits, again, rtol=1e-3, atol=1e-3):
        raise GoldenMismatch(
            "The model's explain gives other logits than its forward. Export it again. "
            f"Largest difference: {float(np.abs(logits - again).max()):.6f}"
        )
    return logits
