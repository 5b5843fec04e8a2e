"""Folders of images to measure and quantize a bundle with, preprocessed as the service does."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bundle.errors import ImagesInvalid
from bundle.format.manifest import Input, Manifest
from bundle.imaging.folder import read_images

CALIBRATION_IMAGES = 300  # NNCF's own default


def calibration_pixels(
    folder: Path, geometry: Input, count: int = CALIBRATION_IMAGES
) -> npt.NDArray[np.uint8]:
    """A fixed random choice of the images below a folder.

    Args:
        folder: Its images may be in sub-folders.
        geometry: The input of the model.
        count: How many images; all if there are fewer.

    Returns:
        uint8 [N, H, W, 3].

    Raises:
        ImagesInvalid: There is no image, or one can't be read.
    """
    files = _files(folder)
    order = np.random.default_rng(0).permutation(len(files))[:count]
    return _pixels([files[i] for i in sorted(order)], geometry)


def all_pixels(folder: Path, geometry: Input) -> npt.NDArray[np.uint8]:
    """All images below a folder, in the order of their paths: uint8 [N, H, W, 3].

    Raises:
        ImagesInvalid: There is no image, or one can't be read.
    """
    return _pixels(_files(folder), geometry)


def labelled_pixels(
    folder: Path, manifest: Manifest
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The images in the sub-folders of `folder`: uint8 [N, H, W, 3], and labels, int64 [N].

    A sub-folder is named by a label, by its id (of WordNet, for example) or by its index. Labels
    without a folder have no images.

    Raises:
        ImagesInvalid: A sub-folder is of no label or of one that another one has, one is
            empty, there is none, or an image can't be read.
    """
    named = {str(index): index for index in range(len(manifest.labels))}
    for names in (manifest.label_ids or [], manifest.labels):
        named |= {name: index for index, name in enumerate(names)}
    found = sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    unknown = [name for name in found if name not in named]
    indices = [named[name] for name in found if name in named]
    if unknown or not found or len(set(indices)) < len(indices):
        raise ImagesInvalid(
            f"The test images do not belong to this model. Expected in {str(folder)!r} at most one "
            "folder for each label, named by the label, its id or its index: "
            f"{', '.join(manifest.labels[:10])}{' ...' if len(manifest.labels) > 10 else ''}. "
            f"{_similar(unknown, manifest.labels)}"
            f"Received: {', '.join((unknown or found)[:10]) or 'none'}"
        )
    files: list[Path] = []
    labels: list[int] = []
    for name, index in zip(found, indices, strict=True):
        of_label = _files(folder / name)
        files += of_label
        labels += [index] * len(of_label)
    return _pixels(files, manifest.input), np.array(labels, np.int64)


def _similar(unknown: list[str], labels: list[str]) -> str:
    """A sentence for folders whose names differ from a label in case or spelling only."""
    by_case = {label.casefold(): label for label in labels}
    for name in unknown:
        for match in get_close_matches(name.casefold(), by_case, n=1, cutoff=0.8):
            return f"Perhaps {name!r} is {by_case[match]!r}. "
    return ""


def _files(folder: Path) -> list[Path]:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    if not files:
        raise ImagesInvalid(f"Expected images. Found none in {str(folder)!r}.")
    return files


def _pixels(files: list[Path], geometry: Input) -> npt.NDArray[np.uint8]:
    pixels, unreadable = read_images(files, geometry)
    for file, reason in unreadable.items():
        raise ImagesInvalid(f"An image can't be read; fix or remove it. {file}: {reason}")
    return pixels
