"""What runs in a decoder process: bytes to pixels, under a memory limit.

The processes of the pool import this module and nothing else of the service, so that they stay small.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bundle.image import ImageLimits, read_input
from bundle.manifest import Input

PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


class Decoded(NamedTuple):
    """An image ready for the model, and what the answer says of it."""

    pixels: npt.NDArray[np.uint8]  # [height, width, 3], of the model's input
    format: str
    width: int
    height: int
    mode: str
    operations: list[str]


def start_decoder(memory_bytes: int, parent: int) -> None:
    """Prepare the process: Ctrl-C is its parent's affair, it ends with it, and its memory is bounded."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The end of the pipe would be noticed too, but only after the image at hand.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
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
    image = read_input(data, geometry, limits)
    return Decoded(image.pixels, image.format, image.width, image.height, image.mode, list(image.operations))
