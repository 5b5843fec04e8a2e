"""Preprocessing and inference of every peer: the servers differ, this does not.

Pillow, NumPy and PyTorch alone. PyTorch is imported when a model is loaded, so that processes that
only forward requests do not pay for it.
"""

from __future__ import annotations

import argparse
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import get_type_hints

import numpy as np
import numpy.typing as npt
from PIL import Image

# As in Image.thumbnail: a JPEG is decoded at a fraction that leaves at least twice the target size.
REDUCING_GAP = 2

Labels = list[dict[str, str | float]]  # [{"label": ..., "score": ...}, ...], best first
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Options:
    """Command-line options of a peer."""

    port: int
    model: Path  # TorchScript: uint8 [N, H, W, 3] to float32 logits [N, C]
    labels: Path  # JSON: {"labels": [...], "resize": 256, "crop": 224}
    workers: int  # processes or threads that run the model
    threads: int  # of PyTorch, for each worker
    batch: int  # maximum batch size
    wait_ms: float  # maximum wait for a batch to fill


def options() -> Options:
    """The options of this process, or of the process that spawned it."""
    parser = argparse.ArgumentParser()
    for name, kind in get_type_hints(Options).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, required=True)
    known, _ = parser.parse_known_args()
    return Options(**vars(known))


class Classifier:
    """A TorchScript model, frozen and warmed up, with its labels and its input size."""

    def __init__(self, options: Options) -> None:
        import torch  # noqa: PLC0415 - see the module docstring

        torch.set_num_threads(options.threads)
        self._torch = torch
        record = json.loads(options.labels.read_text())
        self._labels: list[str] = record["labels"]
        self._resize: int = record["resize"]
        self._crop: int = record["crop"]
        module: torch.jit.ScriptModule = torch.jit.load(str(options.model))  # type: ignore[no-untyped-call]
        self._module = torch.jit.freeze(module.eval())
        # TorchScript profiles the first pass and compiles in the second; then each new shape once.
        for size in (1, 1, *range(1, options.batch + 1)):
            self.classify(np.zeros((size, self._crop, self._crop, 3), np.uint8))

    def decode(self, jpeg: bytes) -> Pixels:
        """The model input uint8 [H, W, 3] of a JPEG."""
        return self.prepare(Image.open(io.BytesIO(jpeg)))

    def prepare(self, image: Image.Image) -> Pixels:
        """The model input uint8 [H, W, 3] of an image that is opened and not decoded yet.

        RGB, shorter side resized, centre cropped.
        """
        image.draft("RGB", (REDUCING_GAP * self._resize, REDUCING_GAP * self._resize))
        if image.mode != "RGB":
            image = image.convert("RGB")
        short = min(image.size)
        width, height = (round(side * self._resize / short) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - self._crop) // 2, (height - self._crop) // 2
        return np.asarray(image.crop((left, top, left + self._crop, top + self._crop)))

    def classify(self, pixels: Pixels) -> list[Labels]:
        """The five most likely classes of each image of a batch [N, H, W, 3]."""
        with self._torch.inference_mode():
            scores = self._module(self._torch.from_numpy(pixels)).softmax(1)
            best = scores.topk(min(5, len(self._labels)))
        return [
            [
                {"label": self._labels[i], "score": score}
                for i, score in zip(indices, values, strict=True)
            ]
            for indices, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def predict(self, jpegs: list[bytes]) -> list[Labels]:
        """Decode and classify a batch."""
        return self.classify(np.stack([self.decode(jpeg) for jpeg in jpegs]))
