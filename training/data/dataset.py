"""A data set in memory: its splits, their fingerprint and the statistics of the training pixels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bundle.batches import in_batches


@dataclass(frozen=True)
class Split:
    """Images of one split: pixels uint8 [N, S, S, 3], labels int64 [N], and their files."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    files: list[Path]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> Split:
        """The images at `indices`, in that order."""
        return Split(self.pixels[indices], self.labels[indices], [self.files[i] for i in indices])


@dataclass(frozen=True)
class Duplicate:
    """An image with the same pixels as an earlier one, in another split or under another label."""

    file: Path
    split: str
    label: str
    first_file: Path
    first_split: str
    first_label: str


@dataclass(frozen=True)
class DataSet:
    """A data set in memory: training, validation (early stopping, calibration) and test images."""

    name: str
    classes: list[str]
    train: Split
    validation: Split
    test: Split
    notes: list[str]  # what was left out and what looks wrong, each with some of the files
    validation_fraction: float  # validation images as a share of the training images
    duplicates: list[Duplicate] = field(default_factory=list)

    def fingerprint(self) -> str:
        """SHA-256 of classes, pixels and labels: a run may be resumed on the same data only."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for split in (self.train, self.validation, self.test):
            digest.update(np.ascontiguousarray(split.pixels).data)
            digest.update(np.ascontiguousarray(split.labels).data)
        return digest.hexdigest()

    def mean_and_std(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and standard deviation float32 [3] of the training pixels, in units of 0 to 255."""
        total = squares = np.zeros(3)
        # In batches, because all pixels in float64 would take eight times their memory.
        for part in in_batches(self.train.pixels):
            values = part.reshape(-1, 3).astype(np.float64)
            total, squares = total + values.sum(0), squares + (values**2).sum(0)
        count = self.train.pixels.size / 3
        mean = total / count
        # A single-colour data set has zero deviation; 1 keeps the division defined.
        return mean.astype("f4"), np.sqrt(np.maximum(squares / count - mean**2, 1)).astype("f4")
