"""Duplicate images: across splits they inflate the accuracy, across classes one label is wrong."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import astuple, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.dataset import Duplicate, Split
from training.data.folders import NAMED
from training.errors import StorageError


def groups(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The index of the first image with the same pixels, int64 [N], for uint8 [N, S, S, 3]."""
    first: dict[bytes, int] = {}
    return np.array(
        [first.setdefault(_digest(image), i) for i, image in enumerate(pixels)],
        np.int64,
    )


def shared(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    """How many images of `other` [M, S, S, 3] also occur in `one` [N, S, S, 3]; both uint8."""
    known = {_digest(image) for image in one}
    return sum(_digest(image) in known for image in other)


def find(train: Split, validation: Split, test: Split, classes: Sequence[str]) -> list[Duplicate]:
    """Every image whose pixels occurred before, in another split or under another label."""
    seen: dict[bytes, tuple[Path, str, str]] = {}
    found = []
    for name, split in (("training", train), ("validation", validation), ("test", test)):
        for image, label, file in zip(
            split.pixels, split.labels.tolist(), split.files, strict=True
        ):
            this = (file, name, classes[label])
            first = seen.setdefault(_digest(image), this)
            if first[1:] != this[1:]:
                found.append(Duplicate(*this, *first))
    return found


def notes(duplicates: Sequence[Duplicate]) -> list[str]:
    """At most two lines: on images that occur in two splits, and on images with two labels."""
    in_two_splits = [
        f"{d.file} ({d.split}) = {d.first_file} ({d.first_split})"
        for d in duplicates
        if d.split != d.first_split
    ]
    with_two_labels = [
        f"{d.file} ({d.label}) = {d.first_file} ({d.first_label})"
        for d in duplicates
        if d.label != d.first_label
    ]
    remarks = (
        ("the same pixels in two splits, which inflates the accuracy; remove one", in_two_splits),
        ("the same pixels under two labels, one of which is wrong", with_two_labels),
    )
    return [
        f"{len(found):,} x {what}: {'; '.join(found[:NAMED])}" for what, found in remarks if found
    ]


def write_list(duplicates: Sequence[Duplicate], path: Path) -> None:
    """Write all of them as CSV, one a row.

    Raises:
        StorageError: the file can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(field.name for field in fields(Duplicate))
            writer.writerows(map(astuple, duplicates))
    except OSError as exc:
        raise StorageError(f"The list of duplicates can't be written: {exc}.") from exc


def _digest(image: NDArray[np.uint8]) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
