"""Folders of images as arrays: one sub-folder per class, with the splits given or made.

    FOLDER/train/<class>/*.jpg  and  FOLDER/test/<class>/*.jpg     splits given
    FOLDER/<class>/*.jpg                                           split made: stratified, seeded

Every image goes through the decoder and the geometry that serve requests (`bundle.imaging.decode`),
so the network sees the same pixels in training and in service.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from rich.progress import track

from bundle.format.manifest import Crop, Input, ShorterSide
from bundle.imaging.folder import read_images
from bundle.imaging.geometry import prepare
from training.data import duplicates
from training.data.dataset import DataSet, Split
from training.data.folders import NAMED, Listing, list_splits
from training.data.splits import TEST_FRACTION, SplitOptions, divide, draw, hold_out
from training.errors import DataError
from training.weights.published import Interpolation


def input_geometry(
    image_size: int, resize: int | None = None, interpolation: Interpolation = "bilinear"
) -> Input:
    """Preprocessing of an image of any size: shorter side to `resize`, then a centre crop.

    Args:
        image_size: side of the crop, in pixels.
        resize: the shorter side before the crop, in pixels; None: `image_size`.
        interpolation: of the resizing.
    """
    return Input(
        height=image_size,
        width=image_size,
        color_mode="RGB",
        dtype="uint8",
        layout="NHWC",
        resize=ShorterSide(
            rule="shorter_side", size=resize or image_size, interpolation=interpolation
        ),
        crop=Crop(rule="center", height=image_size, width=image_size),
    )


def load_folder(folder: Path, options: SplitOptions, *, skip_unreadable: bool = False) -> DataSet:
    """Read a folder of class folders.

    Args:
        folder: with train/ and test/, or with the class folders themselves.
        options: the size of the images and of the splits.
        skip_unreadable: leave unreadable images out, with a note, instead of failing.

    Raises:
        DataError: no such folder, fewer than two classes, an empty class, classes that differ
            between splits, too few images to split, a limit below the number of classes, or an
            unreadable image (unless `skip_unreadable`).
    """
    listed, given = list_splits(folder)
    classes = list(listed.files)
    notes: list[str] = []
    seed = options.seed

    def read(listing: Listing, title: str, limit: int = 0) -> Split:
        notes.extend(listing.notes)
        pairs = [
            (file, label)
            for label, name in enumerate(listing.files)
            for file in listing.files[name]
        ]
        pairs = [pairs[i] for i in draw(np.array([label for _, label in pairs]), limit, seed)]
        split, unreadable = _read(pairs, options.image_size, title)
        if unreadable and not skip_unreadable:
            raise DataError(
                f"{len(unreadable):,} of {len(pairs):,} images can't be read; --skip-unreadable "
                f"leaves such files out. {'; '.join(unreadable[:NAMED])}"
            )
        notes.extend(f"unreadable, left out: {image}" for image in unreadable)
        return split

    if given is not None:
        train = read(listed, "Reading training images", options.train_limit)
        test = read(given, "Reading test images", options.test_limit)
    else:
        train, test = divide(read(listed, "Reading images"), TEST_FRACTION, seed)
        train = train.take(draw(train.labels, options.train_limit, seed))
        test = test.take(draw(test.labels, options.test_limit, seed))
    train, validation, share = hold_out(train, options)
    for split, name in ((train, "training"), (validation, "validation"), (test, "test")):
        if missing := sorted(set(range(len(classes))) - set(split.labels.tolist())):
            raise DataError(
                f"The {name} split of {folder} has no readable image of a class. Expected at least "
                "one per class, so three images per class where no split is given. "
                f"Received none of: {', '.join(classes[i] for i in missing)}"
            )
    copies = duplicates.find(train, validation, test, classes)
    notes += duplicates.notes(copies)
    name = folder.resolve().name
    return DataSet(name, classes, train, validation, test, notes, share, copies)


def load_cifar10(download_folder: Path, options: SplitOptions) -> DataSet:
    """CIFAR-10 (Krizhevsky 2009), downloaded to `download_folder` and checked by torchvision.

    Raises:
        DataError: it can't be downloaded, or a limit is below the number of classes.
    """
    # It imports torch, so only for this data set.
    from torchvision.datasets import CIFAR10  # noqa: PLC0415

    try:
        parts = [
            CIFAR10(str(download_folder), train=train, download=True) for train in (True, False)
        ]
    except (OSError, RuntimeError) as exc:
        raise DataError(
            f"CIFAR-10 could not be downloaded ({exc}). Expected internet access, or a local copy "
            "unpacked into train/<class>/ and test/<class>/: pass its folder as --data."
        ) from exc
    geometry = input_geometry(options.image_size)
    splits = []
    for part, limit in zip(parts, (options.train_limit, options.test_limit), strict=True):
        labels = np.array(part.targets, np.int64)
        drawn = draw(labels, limit, options.seed)
        pixels = np.stack([prepare(part.data[i], geometry) for i in drawn])
        splits.append(Split(pixels, labels[drawn], [Path(str(i)) for i in drawn]))
    train, test = splits
    train, validation, share = hold_out(train, options)
    return DataSet("cifar10", list(parts[0].classes), train, validation, test, [], share)


def _read(pairs: list[tuple[Path, int]], image_size: int, title: str) -> tuple[Split, list[str]]:
    """The readable images of files with labels, and a line for each of the other files."""
    pixels, unreadable = read_images(
        [file for file, _ in pairs],
        input_geometry(image_size),
        partial(track, description=title, transient=True),
    )
    readable = [(file, label) for file, label in pairs if file not in unreadable]
    labels = np.array([label for _, label in readable], np.int64)
    reasons = [f"{file}: {reason}" for file, reason in unreadable.items()]
    return Split(pixels, labels, [file for file, _ in readable]), reasons
