"""The decoder process, ``python -m service.decoding <json>`` (:mod:`service.decoding.pool`): bytes to pixels, under a memory limit.

It imports nothing else of the service, so that it stays small. It unpickles nothing and answers in frames of
:mod:`bundle.worker.wire`: a decoder that an image has taken over can send wrong pixels and no more.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import resource
import socket
import sys
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from bundle.errors import ImageError
from bundle.format.manifest import Input
from bundle.imaging.decode import ImageLimits, decode_image, read_input
from bundle.machine import tune_malloc
from bundle.worker.process import end_with
from bundle.worker.wire import Wire, WireClosed


def main(arguments: dict[str, Any]) -> None:
    """Decode one image after another. ``arguments``: limits, memory_bytes, socket (fd), parent (pid)."""
    end_with(arguments["parent"])
    tune_malloc()
    # libtiff prints what it thinks of a corrupt file to file descriptor 2, past Python.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    limits = ImageLimits(**arguments["limits"])
    wire = Wire(socket.socket(fileno=arguments["socket"]))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + arguments["memory_bytes"]
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    _warm_up(limits)
    wire.send({})  # ready
    while True:
        header, (data,) = wire.receive()
        try:
            image = read_input(data.tobytes(), _geometry(header["geometry"]), limits)
        except ImageError as exc:
            wire.send({"error": exc.code, "detail": str(exc)})
        else:
            wire.send({"image": asdict(image.info)}, [image.pixels])


def _warm_up(limits: ImageLimits) -> None:
    """Load what the libraries load at the first picture, which would be in the time of the first one that is sent."""
    for kind in ("JPEG", "PNG"):
        content = BytesIO()
        Image.new("RGB", (8, 8)).save(content, kind)
        decode_image(content.getvalue(), limits)


@functools.lru_cache(maxsize=256)
def _geometry(text: str) -> Input:
    """The geometry of a model; the same few come again and again."""
    return Input.model_validate_json(text)


if __name__ == "__main__":
    with contextlib.suppress(WireClosed):
        main(json.loads(sys.argv[1]))
