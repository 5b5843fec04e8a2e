"""Class folders on disk: which files belong to which class, and what else its owner should know."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bundle.imaging.formats import SUFFIXES
from training.errors import DataError

TRAIN, TEST = "train", "test"
JUNK = {"__MACOSX", "Thumbs.db", "desktop.ini"}  # of archives and file managers: never data
NAMED = 3  # files that a message names; of more it gives the number


@dataclass(frozen=True)
class Listing:
    """The image files of each class, sorted, and notes on what is left out or linked."""

    files: dict[str, list[Path]]
    notes: list[str]


def list_splits(folder: Path) -> tuple[Listing, Listing | None]:
    """The images of `folder`: of train/ and of test/, or of all class folders and None.

    A folder train/ with images in it and no test/ next to it is a class: photos of trains.

    Raises:
        DataError: no such folder, only one of the two splits, fewer than two classes, classes that
            differ between the splits, or see `list_classes`.
    """
    if not folder.is_dir():
        raise DataError(
            f"There is no folder {str(folder)!r}. Expected a folder with one sub-folder per class."
        )
    has_test = (folder / TEST).is_dir()
    if not (folder / TRAIN).is_dir() or not (has_test or _subfolders(folder / TRAIN)):
        listing = list_classes(folder)
        _check_two_classes(folder, listing)
        return listing, None
    if not has_test:
        raise DataError(
            f"{folder} has a sub-folder {TRAIN!r} but no {TEST!r}. Expected both, or one "
            "sub-folder per class."
        )
    train, test = list_classes(folder / TRAIN), list_classes(folder / TEST)
    if different := sorted(set(train.files) ^ set(test.files)):
        raise DataError(
            f"The class folders of {TRAIN!r} and {TEST!r} differ. Expected the same classes in "
            f"both. Received in one only: {', '.join(different)}"
        )
    _check_two_classes(folder, train)
    others = [entry for entry in _visible(folder) if entry.name not in (TRAIN, TEST)]
    notes = [f"neither {TRAIN} nor {TEST}, left out: {some(others)}"] if others else []
    return Listing(train.files, notes + train.notes), test


def _check_two_classes(folder: Path, listing: Listing) -> None:
    if len(listing.files) < 2:
        raise DataError(
            f"{folder} has one class folder. Expected two or more classes. "
            f"Received: {next(iter(listing.files))!r}"
        )


def list_classes(folder: Path) -> Listing:
    """The classes of `folder`, one sub-folder each; hidden entries are left out.

    Only images directly in a class folder count. Links are followed, also out of the folder.

    Raises:
        DataError: no sub-folders, or a class without an image; the text says where images were
            found instead.
    """
    entries = _subfolders(folder)
    if not entries:
        raise DataError(
            f"{folder} has no sub-folders. Expected one sub-folder per class, with images in it."
        )
    files = {entry.name: [file for file in _visible(entry) if _is_image(file)] for entry in entries}
    nested = {entry.name: _nested_images(entry) for entry in entries}
    if empty := [name for name, found in files.items() if not found]:
        deeper = [file for name in empty for file in nested[name]]
        hint = ""
        if deeper:
            hint = f". Images lie deeper, where they do not count; move them up: {some(deeper)}"
        raise DataError(
            f"A class folder of {folder} has no image ({', '.join(sorted(SUFFIXES))}). Add images "
            f"or remove the folder. Received: {', '.join(empty)}{hint}"
        )
    images = [file for found in files.values() for file in found]
    others = [file for entry in entries for file in _visible(entry) if not _is_image(file)]
    remarks = (
        ("not an image by its suffix, left out", [file for file in others if file.is_file()]),
        ("in no class folder, left out", [file for file in _visible(folder) if _is_image(file)]),
        (
            "in a sub-folder of a class, left out",
            [file for found in nested.values() for file in found],
        ),
        (
            "hidden (the name begins with a dot), not taken as a class; rename it to include it",
            [entry for entry in sorted(folder.iterdir()) if _is_hidden_class(entry)],
        ),
        (f"a link out of {folder}, followed", _links_out(folder, [*images, *entries])),
    )
    return Listing(files, [f"{what}: {some(paths)}" for what, paths in remarks if paths])


def some(things: Iterable[Path | str], count: int = NAMED) -> str:
    """The first `count` of `things`, and how many more there are."""
    names = [str(thing) for thing in things]
    rest = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + rest


def _links_out(folder: Path, entries: Iterable[Path]) -> list[Path]:
    # Not Path.resolve, which raises on a link to itself.
    inside = Path(os.path.realpath(folder))
    return [
        entry
        for entry in entries
        if entry.is_symlink() and not Path(os.path.realpath(entry)).is_relative_to(inside)
    ]


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not _hidden(entry))


def _subfolders(folder: Path) -> list[Path]:
    return [entry for entry in _visible(folder) if entry.is_dir()]


def _hidden(entry: Path) -> bool:
    return entry.name.startswith(".") or entry.name in JUNK


def _is_hidden_class(entry: Path) -> bool:
    return (
        entry.name.startswith(".")
        and entry.is_dir()
        and any(_is_image(file) for file in _visible(entry))
    )


def _is_image(file: Path) -> bool:
    # A broken link is an image that can't be read; reading it reports that.
    return file.suffix.lower() in SUFFIXES and (
        file.is_file() or (file.is_symlink() and not file.exists())
    )


def _nested_images(folder: Path) -> list[Path]:
    """Images below the sub-folders of a class folder; linked folders are skipped, they may loop."""
    subfolders = [entry for entry in _subfolders(folder) if not entry.is_symlink()]
    return sorted(
        file
        for subfolder in subfolders
        for file in subfolder.rglob("*")
        if _is_image(file) and not _hidden(file)
    )
