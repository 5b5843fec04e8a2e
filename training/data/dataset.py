"""A data set in memory: its splits, their fingerprint and the statistics of the training pixels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bundle.batches import in_batches


@dataclass(frozen=True)
class Split:
    """Images of one split: uint8 pixels [N, S, S, 3], int64 labels [N], and the file of each image."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    files: list[Path]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> Split:
        """The images at `indices`, in that order."""
        return Split(self.pixels[indices], self.labels[indices], [self.files[i] for i in indices])


@dataclass(frozen=True)
class DataSet:
    """A data set in memory: what is trained on, what the temperature is fitted on, what is reported."""

    name: str
    classes: list[str]
    train: Split
    validation: Split
    test: Split
    notes: list[str]  # what was left out and what looks wrong, each with the files
    validation_fraction: float  # share of the training images that the validation images are

    def fingerprint(self) -> str:
        """A digest of pixels, labels and classes: a run may be resumed on the same data only."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for split in (self.train, self.validation, self.test):
            digest.update(np.ascontiguousarray(split.pixels))
            digest.update(np.ascontiguousarray(split.labels))
        return digest.hexdigest()

    def mean_and_std(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and standard deviation float32 [3] of the training pixels, in units of 0 to 255."""
        total = squares = np.zeros(3)
        for part in in_batches(
            self.train.pixels
        ):  # in float64 all of them would take eight times their memory
            values = part.reshape(-1, 3).astype(np.float64)
            total, squares = total + values.sum(0), squares + (values**2).sum(0)
        count = self.train.pixels.size / 3
        mean = total / count
        # A data set of one colour has no deviation; 1 keeps the division defined.
        return mean.astype("f4"), np.sqrt(np.maximum(squares / count - mean**2, 1)).astype("f4")
