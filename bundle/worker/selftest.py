"""The self-test of a loaded model: classify the golden images and compare with the record."""

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
    """The model's score and the recorded score of one class of a golden image."""

    label: str
    found: float
    recorded: float
    at_one: bool  # compared at temperature 1, among the recorded classes

    @property
    def size(self) -> float:
        """The absolute difference of both scores."""
        return abs(self.found - self.recorded)


def run_golden(directory: Path, manifest: Manifest, artifact: Artifact, model: Model) -> float:
    """Classify every golden image and compare; return the largest absolute score difference.

    Each image takes the path of an upload: decode, geometry, the model, calibrated softmax; then
    `golden_differences` compares the scores. `explain` runs on the same pixels, and must give the
    same logits and a heat map of the recorded size. The source artifact is held to the tolerance of
    the golden samples, an accelerated one to its own.

    Raises:
        GoldenMismatch: A score differs; the text has the file and both values.
        RuntimeUnavailable: The model fails, or its output has another shape.
    """
    largest = 0.0
    tolerance = golden_tolerance(manifest, artifact)
    for sample in manifest.golden.samples:
        try:
            image = read_input((directory / sample.file).read_bytes(), manifest.input)
        except ImageError as exc:
            raise GoldenMismatch(f"A golden image is refused: {exc} File: {sample.file!r}") from exc
        logits = _checked_logits(manifest, model, image.pixels[None], sample.top[0].index)
        for difference in golden_differences(sample, logits[0], manifest.calibration.temperature):
            if not difference.size <= tolerance:
                raise GoldenMismatch(_mismatch(sample.file, artifact, difference, tolerance))
            largest = max(largest, difference.size)
    return largest


def golden_differences(
    sample: GoldenSample, logits: npt.NDArray[np.float32], temperature: float
) -> list[Difference]:
    """Compare logits [C] with the recorded scores, at the bundle's temperature and at 1.

    A high temperature makes the scores of every network alike, but the record has more information:
    the difference of two logits is `temperature * (log s_i - log s_j)`, which gives the scores at
    temperature 1 among the recorded classes. A score recorded as 0 has lost its logit and is left
    out of these.
    """
    classes = np.array([top.index for top in sample.top])
    recorded = np.array([top.score for top in sample.top])
    kept = np.flatnonzero(recorded)
    scores = calibrated_softmax(logits, temperature)[classes]
    differences = [
        Difference(top.label, float(score), top.score, at_one=False)
        for top, score in zip(sample.top, scores, strict=True)
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
        f"{model} scores {difference.label!r} as {difference.found:.6f}; the bundle records "
        f"{difference.recorded:.6f} with tolerance {tolerance:g}. {remedy} again, or install the "
        f"recorded version of the runtime. File: {file!r}"
    )


def golden_tolerance(manifest: Manifest, artifact: Artifact) -> float:
    """The largest score difference that the self-test of `artifact` allows."""
    return (
        artifact.derivation.golden_tolerance if artifact.derivation else manifest.golden.tolerance
    )


def _checked_logits(
    manifest: Manifest,
    model: Model,
    pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
    index: int,
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Run the model on `pixels` [1, H, W, 3], check its output, return logits [1, C]."""
    size = manifest.heatmap_size
    try:
        logits = model.run(pixels).logits
        arrays = [logits]
        if size:
            explained = model.run(pixels, np.array([index], dtype=np.int64))
            arrays += [each for each in explained if each is not None]
    except Exception as exc:  # the frameworks raise any type
        raise RuntimeUnavailable(
            f"The model fails on a golden image. Export it again. Received: {describe(exc)}"
        ) from exc
    classes = (1, len(manifest.labels))
    expected = [classes, classes, (1, *size)] if size else [classes]
    if [array.shape for array in arrays] != expected or any(
        array.dtype != np.float32 for array in arrays
    ):
        received = [f"{array.dtype} {array.shape}" for array in arrays]
        raise RuntimeUnavailable(
            f"The model's output has another shape. Expected float32 {expected} for logits"
            f"{', and explain for its logits and heat map' if size else ''}. Received: {received}"
        )
    if not all(np.isfinite(array).all() for array in arrays):
        raise RuntimeUnavailable(
            "The model's output on a golden image is NaN or infinity. Train it again."
        )
    if size and not np.allclose(logits, arrays[1], rtol=1e-3, atol=1e-3):
        raise GoldenMismatch(
            "The model's explain returns other logits than its forward. Export it again. "
            f"Largest difference: {float(np.abs(logits - arrays[1]).max()):.6f}"
        )
    return logits
