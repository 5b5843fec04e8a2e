"""A folder of images before its pixels are read: how many there are, and how large."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import median

import numpy as np

from bundle.errors import ImageError
from bundle.imaging.decode import image_size
from training.data.folders import list_splits, some
from training.errors import DataError

SAMPLED = 200  # files whose headers are read for the size of the images


@dataclass(frozen=True)
class Survey:
    """What directory listings and a sample of image headers show."""

    counts: dict[str, int]  # images of each class; those of train/ where a split is given
    test: int | None  # images of test/; None: no split is given
    side: int  # shorter side, in pixels: the median of the sampled files
    digest: str  # of the names and sizes of all files: a changed folder is different data

    @property
    def images(self) -> int:
        """All images, test images included."""
        return sum(self.counts.values()) + (self.test or 0)

    @property
    def imbalance(self) -> float:
        """The number of images of the largest class divided by that of the smallest."""
        return max(self.counts.values()) / min(self.counts.values())


def survey(folder: Path) -> Survey:
    """List the folder and sample the headers of its images.

    Raises:
        DataError: it can't be used (see `list_splits`), a class has too few images, or none of the
            sampled files is an image.
    """
    train, test = list_splits(folder)
    minimum = 2 if test else 3  # one for each split to be made
    few = [f"{name} {len(found)}" for name, found in train.files.items() if len(found) < minimum]
    if few:
        raise DataError(
            f"{folder} has too few images of a class to train, to validate and to test on. "
            f"Expected {minimum} or more per class, and some hundred for a useful model. "
            f"Received: {some(few)}"
        )
    files = list(chain(*train.files.values(), *(test.files.values() if test else ())))
    chosen = np.unique(np.linspace(0, len(files) - 1, SAMPLED).round().astype(int))
    sides = [side for i in chosen if (side := _shorter_side(files[i]))]
    if not sides:
        raise DataError(
            f"None of {len(chosen)} sampled images can be read. Expected JPEG, PNG, WebP, GIF, "
            f"BMP, TIFF, HEIC or AVIF. Received: {files[chosen[0]]}, ..."
        )
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size if file.exists() else 0
        digest.update(f"{file.relative_to(folder)}\0{size}\0".encode())
    return Survey(
        counts={name: len(found) for name, found in train.files.items()},
        test=sum(map(len, test.files.values())) if test else None,
        side=int(median(sides)),
        digest=digest.hexdigest(),
    )


def _shorter_side(file: Path) -> int | None:
    """In pixels, from the header; None if it can't be read, which reading the image reports."""
    try:
        return min(image_size(file.read_bytes()))
    except (ImageError, OSError):
        return None
