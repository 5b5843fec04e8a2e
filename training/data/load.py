"""Folders of images as arrays: one sub-folder per class, with the splits given or made.

    FOLDER/train/<class>/*.jpg  and  FOLDER/test/<class>/*.jpg     splits given
    FOLDER/<class>/*.jpg                                           split made: stratified and deterministic

Every image goes through the decoder and the geometry that serve requests (`bundle.imaging.decode`), so a
network never meets pixels in service that it has not met in training.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from bundle.format.manifest import Crop, Input, ShorterSide
from bundle.imaging.folder import read_images
from bundle.imaging.geometry import prepare
from training.config import MIN_VALIDATION
from training.data import duplicates
from training.data.dataset import DataSet, Split
from training.data.folders import NAMED, Listing, list_splits
from training.errors import DataError

TEST_FRACTION = 0.2  # of each class, where no split is given
VALIDATION_STEP = 0.01  # by which the validation split grows where it may


def input_geometry(
    image_size: int, resize: int | None = None, interpolation: str = "bilinear"
) -> Input:
    """How an image of any size becomes `image_size` squared: shorter side to `resize` (None: to it), centre cropped."""
    return Input(
        height=image_size,
        width=image_size,
        color_mode="RGB",
        dtype="uint8",
        layout="NHWC",
        resize=ShorterSide(
            rule="shorter_side", size=resize or image_size, interpolation=interpolation
        ),  # type: ignore[arg-type]
        crop=Crop(rule="center", height=image_size, width=image_size),
    )


def load_folder(
    folder: Path,
    *,
    image_size: int,
    validation_fraction: float,
    max_validation: float = 0.0,
    seed: int,
    train_limit: int = 0,
    test_limit: int = 0,
    skip_unreadable: bool = False,
) -> DataSet:
    """Read a folder of class folders.

    Args:
        validation_fraction: share of the training images that is held out; where that is fewer than MIN_VALIDATION
            images, as much more as it takes, up to `max_validation`.
        train_limit, test_limit: most images of a split, each class with its share, drawn with the seed; 0: all.
            The validation images are taken out of the limited training split.

    Raises:
        DataError: no such folder, fewer than two classes, an empty class, classes that differ between splits, too
            few images to split, a limit below the number of classes, or an unreadable image (unless `skip_unreadable`).
    """
    listed, given = list_splits(folder)
    classes = list(listed.files)
    notes: list[str] = []

    def read(listing: Listing, title: str, limit: int = 0) -> Split:
        notes.extend(listing.notes)
        pairs = [
            (file, label)
            for label, name in enumerate(listing.files)
            for file in listing.files[name]
        ]
        pairs = [pairs[i] for i in draw(np.array([label for _, label in pairs]), limit, seed)]
        return _read(pairs, image_size, skip_unreadable, notes, title)

    if given is not None:
        train = read(listed, "Reading training images", train_limit)
        test = read(given, "Reading test images", test_limit)
    else:
        train, test = _divide(read(listed, "Reading images"), TEST_FRACTION, seed)
        train, test = (
            split.take(draw(split.labels, limit, seed))
            for split, limit in ((train, train_limit), (test, test_limit))
        )
    train, validation, share = _hold_out(train, validation_fraction, max_validation, seed)
    for split, name in ((train, "training"), (validation, "validation"), (test, "test")):
        if missing := sorted(set(range(len(classes))) - set(split.labels.tolist())):
            raise DataError(
                f"The {name} split of {folder} has no readable image of a class. Expected at least one of each, so three "
                f"images of a class where no split is given. "
                f"Received none of: {', '.join(classes[i] for i in missing)}"
            )
    notes += duplicates.notes(train, validation, test, classes)
    return DataSet(folder.resolve().name, classes, train, validation, test, notes, share)


def load_cifar10(
    download_folder: Path,
    *,
    image_size: int,
    validation_fraction: float,
    max_validation: float = 0.0,
    seed: int,
    train_limit: int = 0,
    test_limit: int = 0,
) -> DataSet:
    """CIFAR-10 (Krizhevsky 2009), downloaded and hash-checked by torchvision into `download_folder`.

    Args: as for `load_folder`.

    Raises:
        DataError: it can't be downloaded, or a limit is below the number of classes.
    """
    from torchvision.datasets import CIFAR10  # noqa: PLC0415 - imports torch: only for this data set

    try:
        parts = [
            CIFAR10(str(download_folder), train=train, download=True) for train in (True, False)
        ]
    except (OSError, RuntimeError) as exc:
        raise DataError(
            f"CIFAR-10 could not be downloaded ({exc}). Expected internet access, or a local copy unpacked into "
            "train/<class>/ and test/<class>/: pass its folder as --data."
        ) from exc
    geometry = input_geometry(image_size)
    splits = []
    for part, limit in zip(parts, (train_limit, test_limit), strict=True):
        labels = np.array(part.targets, np.int64)
        drawn = draw(labels, limit, seed)
        pixels = np.stack([prepare(part.data[i], geometry) for i in drawn])
        splits.append(Split(pixels, labels[drawn], [Path(str(i)) for i in drawn]))
    train, test = splits
    train, validation, share = _hold_out(train, validation_fraction, max_validation, seed)
    return DataSet("cifar10", list(parts[0].classes), train, validation, test, [], share)


def draw(labels: NDArray[np.int64], limit: int, seed: int) -> NDArray[np.int64]:
    """Indices of `limit` images (0: of all), in order: one of each class, and of the others each class its share."""
    if not limit or limit >= len(labels):
        return np.arange(len(labels))
    classes, counts = np.unique(labels, return_counts=True)
    if limit < len(classes):
        raise DataError(
            f"A limit leaves each class at least one image. Expected {len(classes)} or more. Received: {limit}"
        )
    shares = (counts - 1) * (limit - len(classes)) / (len(labels) - len(classes))
    quotas = 1 + np.floor(shares).astype(int)
    largest = np.argsort(np.floor(shares) - shares, kind="stable")  # of the rests that were cut off
    quotas[largest[: limit - quotas.sum()]] += 1
    generator = np.random.default_rng([seed, limit])
    drawn = [
        generator.permutation(np.flatnonzero(labels == label))[:quota]
        for label, quota in zip(classes, quotas, strict=True)
    ]
    return np.sort(np.concatenate(drawn))


def share_of(count: int, fraction: float) -> int:
    """How many of the `count` images of a class a split takes that has this share of them: at least one."""
    return max(1, round(count * fraction))


def _hold_out(train: Split, fraction: float, most: float, seed: int) -> tuple[Split, Split, float]:
    """What stays in training, the validation split, and the share that it is, as `load_folder` describes it."""
    rest, validation = _divide(train, fraction, seed)
    while len(validation) < MIN_VALIDATION and fraction < most:
        fraction = min(most, round(fraction + VALIDATION_STEP, 2))
        rest, validation = _divide(train, fraction, seed)
    return rest, validation, fraction


def _divide(split: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """Two parts, the second with `fraction` of each class (at least one image), drawn with the seed.

    Copies of an image go where the first one goes: what is tested has not been trained on.
    """
    generator = np.random.default_rng([seed, len(split)])
    group = duplicates.groups(split.pixels)
    second = np.zeros(len(split), bool)
    for label in np.unique(split.labels):
        members = np.unique(group[split.labels == label])
        chosen = generator.permutation(members)[: share_of(len(members), fraction)]
        second[np.isin(group, chosen)] = True
    return split.take(np.flatnonzero(~second)), split.take(np.flatnonzero(second))


def _read(
    pairs: list[tuple[Path, int]],
    image_size: int,
    skip_unreadable: bool,
    notes: list[str],
    title: str,
) -> Split:
    track_files = partial(track, description=title, transient=True)
    pixels, unreadable = read_images(
        [file for file, _ in pairs], input_geometry(image_size), track_files
    )
    reasons = [f"{file}: {reason}" for file, reason in unreadable.items()]
    if reasons and not skip_unreadable:
        raise DataError(
            f"{len(reasons):,} of {len(pairs):,} images can't be read; --skip-unreadable leaves such files out. "
            + "; ".join(reasons[:NAMED])
        )
    notes += [f"unreadable, left out: {reason}" for reason in reasons]
    readable = [(file, label) for file, label in pairs if file not in unreadable]
    labels = np.array([label for _, label in readable], np.int64)
    return Split(pixels, labels, [file for file, _ in readable])
