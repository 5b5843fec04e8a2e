"""What runs in a decoder process: bytes to pixels, under a memory limit.

The processes of the pool import this module and nothing else of the service, so that they stay small.
"""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bundle.geometry import prepare
from bundle.image import ImageLimits, decode_image
from bundle.manifest import Input


class Decoded(NamedTuple):
    """An image ready for the model, and what the answer says of it."""

    pixels: npt.NDArray[np.uint8]  # [height, width, 3], of the model's input
    format: str
    width: int
    height: int
    mode: str
    operations: list[str]


def start_decoder(memory_bytes: int) -> None:
    """Prepare the process: Ctrl-C is its parent's affair, and memory is bounded above what it holds now."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # libtiff prints what it thinks of a corrupt file to file descriptor 2, past Python.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def decode(data: bytes, limits: ImageLimits, geometry: Input) -> Decoded:
    """Decode and bring to the geometry of a model.

    Raises:
        ImageError: of the type that says why not.
    """
    image = decode_image(data, limits)
    pixels = prepare(image.pixels, geometry)
    return Decoded(pixels, image.format, image.width, image.height, image.mode, list(image.operations))
