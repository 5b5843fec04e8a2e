"""The golden images of a trained model: from a folder, or from the test split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from bundle.errors import ImageError
from bundle.evaluation.golden import GOLDEN_SAMPLES, as_files
from bundle.imaging.decode import decode_image
from training.data.dataset import DataSet
from training.errors import TrainingError


def read_golden(folder: Path) -> list[tuple[str, bytes]]:
    """File name and content of the first images of a folder.

    Raises:
        TrainingError: There is no such folder, or no image in it, or one can't be read.
    """
    if not folder.is_dir():
        raise TrainingError(
            f"There is no folder {str(folder)!r}. Expected one with JPEG or PNG images."
        )
    files = sorted(folder.glob("*"))
    files = [file for file in files if file.suffix.lower() in (".png", ".jpg", ".jpeg")][
        :GOLDEN_SAMPLES
    ]
    if not files:
        raise TrainingError(
            f"Expected JPEG or PNG images for the golden samples. Found none in {folder}."
        )
    contents = []
    for file in files:
        try:
            contents.append(file.read_bytes())
            decode_image(contents[-1])
        except (ImageError, OSError) as exc:
            raise TrainingError(
                f"An image for the golden samples can't be read. {file}: {exc}"
            ) from exc
    return [
        (f"{i}{file.suffix.lower()}", content)
        for i, (file, content) in enumerate(zip(files, contents, strict=True))
    ]


def golden_of(data: DataSet) -> list[tuple[str, bytes]]:
    """File name and content of test images spread over the classes."""
    chosen = np.linspace(0, len(data.test) - 1, GOLDEN_SAMPLES).round().astype(int)
    return as_files(Image.fromarray(data.test.pixels[i]) for i in chosen)
