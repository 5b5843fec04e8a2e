"""Folders that are checked before the work for them, and files that are replaced in one step."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def check_writable(folder: Path) -> None:
    """Create `folder` if needed and check that a file can be written in it.

    Raises:
        OSError: it can't be created or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(4096))  # on a full disk an empty file can still be created


def replace_file(path: Path, data: bytes) -> None:
    """Write a file that others read: they see the old bytes or the new ones.

    Raises:
        OSError: It can't be written.
    """
    beside = path.with_name(f".{path.name}.new")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
