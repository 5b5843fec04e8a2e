"""`load_folder` with small images, as the tests of this folder call it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from training.data.dataset import DataSet
from training.data.load import load_folder
from training.data.splits import SplitOptions


def load(folder: Path, *, skip_unreadable: bool = False, **changes: Any) -> DataSet:
    options = replace(SplitOptions(image_size=16, validation_fraction=0.1), **changes)
    return load_folder(folder, options, skip_unreadable=skip_unreadable)
