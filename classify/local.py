"""Answers from a bundle, without a service: the same decoding, process and scores."""

from __future__ import annotations

from pathlib import Path

from bundle.certainty import doubt
from bundle.errors import BundleError, ImageError
from bundle.format.manifest import read_manifest
from bundle.imaging.decode import read_input
from bundle.scores import calibrated_softmax, top_k
from bundle.worker.blocking import RuntimeProcess
from classify.answers import Answer, Prediction
from classify.errors import ImageRefused, Unusable

START_S, INFER_S = 600.0, 120.0


class BundleModel:
    """The model of a bundle, in a process of its own until `close`. Its methods are thread-safe.

    Args:
        folder: Of the bundle, `MODELS/NAME/VERSION`.
        count: Predictions for each image.

    Raises:
        Unusable: The bundle is refused.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self._count = count
        try:
            self._manifest = read_manifest(folder)
            self._process = RuntimeProcess(folder, "auto", confined=True)
            self._process.start(START_S)
        except BundleError as exc:
            raise Unusable(f"{exc.code}: {exc}") from exc

    def classify(self, name: str, data: bytes) -> Answer:
        """The answer for one file.

        Raises:
            ImageRefused: The file can't be decoded.
            Unusable: The model has ended.
        """
        manifest = self._manifest
        try:
            pixels = read_input(data, manifest.input).pixels
            logits = self._process.infer(pixels[None], INFER_S)
        except ImageError as exc:
            raise ImageRefused(exc.code, str(exc)) from exc
        except BundleError as exc:
            raise Unusable(f"{exc.code}: {exc}") from exc
        scores = calibrated_softmax(logits, manifest.calibration.temperature)[0]
        best = top_k(scores, manifest.labels, self._count)
        uncertain = None
        if manifest.rejection is not None:
            uncertain = doubt(manifest.rejection, logits[0], best[0]["score"]) is not None
        model = f"{manifest.name}/{manifest.version}"
        return Answer(name, model, [Prediction(**each) for each in best], uncertain)

    def close(self) -> None:
        """End the process."""
        self._process.stop()
