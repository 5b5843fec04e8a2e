"""Checks of folders before the work whose results go into them."""

from __future__ import annotations

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
