"""Images that occur more than once: across splits they flatter the accuracy, across classes one label is wrong."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from training.data.dataset import Split
from training.data.folders import NAMED


def groups(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """For each image of uint8 [N, S, S, 3] the index of the first one with the same pixels: int64 [N]."""
    first: dict[bytes, int] = {}
    return np.array(
        [first.setdefault(_digest(image), i) for i, image in enumerate(pixels)],
        np.int64,
    )


def shared(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    """How many images of `other` [M, S, S, 3] have the pixels of an image of `one` [N, S, S, 3]; both uint8."""
    known = {_digest(image) for image in one}
    return sum(_digest(image) in known for image in other)


def notes(train: Split, validation: Split, test: Split, classes: list[str]) -> list[str]:
    """A remark on images that two splits share, and on images that stand under two labels."""
    seen: dict[bytes, tuple[str, int, str]] = {}
    shared, contradicting = [], []
    for name, split in (("training", train), ("validation", validation), ("test", test)):
        for image, label, file in zip(
            split.pixels, split.labels.tolist(), split.files, strict=True
        ):
            there, theirs, other = seen.setdefault(_digest(image), (name, label, str(file)))
            if there != name:
                shared.append(f"{file} ({name}) = {other} ({there})")
            if theirs != label:
                contradicting.append(f"{file} ({classes[label]}) = {other} ({classes[theirs]})")
    remarks = (
        ("the same pixels in two splits, which flatters the accuracy; remove one of each", shared),
        ("the same pixels under two labels, of which one is wrong", contradicting),
    )
    return [
        f"{len(found):,} x {what}: {'; '.join(found[:NAMED])}" for what, found in remarks if found
    ]


def _digest(image: NDArray[np.uint8]) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image), digest_size=16).digest()
