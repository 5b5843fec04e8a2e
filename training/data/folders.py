"""Class folders on disk: which files belong to which class, and what else lies there that its owner should hear of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from training.errors import DataError

TRAIN, TEST = "train", "test"
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
NAMED = 3  # offenders that a message names; of more it gives the number


@dataclass(frozen=True)
class Listing:
    """The image files of each class, sorted, and remarks about what is left out or reached through links."""

    files: dict[str, list[Path]]
    notes: list[str]


def list_splits(folder: Path) -> tuple[Listing, Listing | None]:
    """The images of `folder`: those of train/ and those of test/, or all of them and None where no split is given.

    A folder train/ with images in it and no test/ beside it is a class: somebody has photos of trains.

    Raises:
        DataError: no such folder, one of the two splits only, fewer than two classes, classes that differ between the
            splits, or see `list_classes`.
    """
    if not folder.is_dir():
        raise DataError(
            f"There is no folder {str(folder)!r}. Expected a folder with one sub-folder per class."
        )
    has_test = (folder / TEST).is_dir()
    if not (folder / TRAIN).is_dir() or not (has_test or _subfolders(folder / TRAIN)):
        listing = list_classes(folder)
        _refuse_one_class(folder, listing)
        return listing, None
    if not has_test:
        raise DataError(
            f"{folder} has a sub-folder {TRAIN!r} but no {TEST!r}. Expected both, or one sub-folder per class."
        )
    train, test = list_classes(folder / TRAIN), list_classes(folder / TEST)
    if different := sorted(set(train.files) ^ set(test.files)):
        raise DataError(
            f"The class folders of {TRAIN!r} and {TEST!r} differ. Expected the same classes in both. "
            f"Received in one only: {', '.join(different)}"
        )
    _refuse_one_class(folder, train)
    beside = [entry for entry in _visible(folder) if entry.name not in (TRAIN, TEST)]
    notes = [f"neither {TRAIN} nor {TEST}, left out: {some(beside)}"] if beside else []
    return Listing(train.files, notes + train.notes), test


def _refuse_one_class(folder: Path, listing: Listing) -> None:
    if len(listing.files) < 2:
        raise DataError(
            f"{folder} has one class folder. Expected two or more classes. Received: {next(iter(listing.files))!r}"
        )


def list_classes(folder: Path) -> Listing:
    """The classes of `folder`, one sub-folder each; hidden entries are passed over.

    Only images that lie directly in a class folder count. Links are followed, also out of the folder.

    Raises:
        DataError: no sub-folders, or a class without an image; the text says where images were found instead.
    """
    entries = _subfolders(folder)
    if not entries:
        raise DataError(
            f"{folder} has no sub-folders. Expected one sub-folder per class, with the images in it."
        )
    files = {entry.name: [file for file in _visible(entry) if _is_image(file)] for entry in entries}
    nested = {entry.name: _nested_images(entry) for entry in entries}
    if empty := [name for name, found in files.items() if not found]:
        deeper = [file for name in empty for file in nested[name]]
        raise DataError(
            f"A class folder of {folder} holds no image ({', '.join(sorted(SUFFIXES))}). Add images or remove the "
            f"folder. Received: {', '.join(empty)}"
            + (
                f". Images lie deeper, where they do not count; move them up: {some(deeper)}"
                if deeper
                else ""
            )
        )
    strangers = [
        file
        for entry in entries
        for file in _visible(entry)
        if file.is_file() and not _is_image(file)
    ]
    inside = folder.resolve()
    linked = [
        file
        for found in files.values()
        for file in found
        if file.is_symlink() and not file.resolve().is_relative_to(inside)
    ]
    linked += [
        entry
        for entry in entries
        if entry.is_symlink() and not entry.resolve().is_relative_to(inside)
    ]
    remarks = (
        ("no image by its suffix, left out", strangers),
        ("in no class folder, left out", [file for file in _visible(folder) if _is_image(file)]),
        (
            "in a sub-folder of a class, left out",
            [file for found in nested.values() for file in found],
        ),
        (f"a link out of {folder}, followed", linked),
    )
    return Listing(files, [f"{what}: {some(paths)}" for what, paths in remarks if paths])


def some(things: Iterable[Path | str], most: int = NAMED) -> str:
    """The first `most` of `things`, and how many there are if there are more."""
    names = [str(thing) for thing in things]
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not _hidden(entry))


def _subfolders(folder: Path) -> list[Path]:
    return [entry for entry in _visible(folder) if entry.is_dir()]


def _hidden(entry: Path) -> bool:
    return entry.name.startswith(".")


def _is_image(file: Path) -> bool:
    # A link that leads nowhere is an image that can't be read, which is said when it is read.
    return file.suffix.lower() in SUFFIXES and (
        file.is_file() or (file.is_symlink() and not file.exists())
    )


def _nested_images(folder: Path) -> list[Path]:
    """Images below the sub-folders of a class folder; linked folders are not entered, for they may form circles."""
    subfolders = [entry for entry in _subfolders(folder) if not entry.is_symlink()]
    return sorted(
        file
        for subfolder in subfolders
        for file in subfolder.rglob("*")
        if _is_image(file) and not _hidden(file)
    )
