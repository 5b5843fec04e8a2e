"""The image files that the arguments name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from bundle.imaging.formats import SUFFIXES


def image_files(paths: Iterable[Path]) -> Iterator[Path]:
    """Each file once: those that are named, whatever they are, and the images below folders."""
    seen: set[Path] = set()
    for path in paths:
        for file in _below(path) if path.is_dir() else [path]:
            if file not in seen:
                seen.add(file)
                yield file


def _below(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if file.suffix.lower() in SUFFIXES and not hidden and file.is_file():
            yield file
