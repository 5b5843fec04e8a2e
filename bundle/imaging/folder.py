"""Many image files at once, each read as the service reads an upload."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bundle.errors import ImageError
from bundle.format.manifest import Input
from bundle.imaging.decode import read_input


def read_images(
    files: Sequence[Path],
    geometry: Input,
    progress: Callable[[Sequence[Path]], Iterable[Path]] = iter,
) -> tuple[npt.NDArray[np.uint8], dict[Path, str]]:
    """Read image files in a thread pool.

    Args:
        geometry: to which every image is brought.
        progress: yields the files as they are done, as `rich.progress.track` does.

    Returns:
        uint8 [N, H, W, 3] of the readable files in order, and the reason for each unreadable one.
    """

    def read(file: Path) -> npt.NDArray[np.uint8] | str:
        try:
            return read_input(file.read_bytes(), geometry).pixels
        except (ImageError, OSError) as exc:
            return str(exc)

    pixels: list[npt.NDArray[np.uint8]] = []
    unreadable: dict[Path, str] = {}
    with ThreadPoolExecutor() as pool:  # Pillow's decoders release the interpreter lock
        for file, image in zip(progress(files), pool.map(read, files), strict=True):
            if isinstance(image, str):
                unreadable[file] = image
            else:
                pixels.append(image)
    shape = (len(pixels), geometry.height, geometry.width, 3)
    return np.stack(pixels) if pixels else np.empty(shape, np.uint8), unreadable
