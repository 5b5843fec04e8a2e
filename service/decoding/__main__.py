"""The decoder process, `python -m service.decoding JSON`: image bytes to pixels, in bounded memory.

It draws heat maps over images, too. It imports nothing else of the service, so that it stays small.
It receives and sends frames of `bundle.worker.wire`, without pickle: a decoder compromised by an
image can send wrong pixels only.
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
from typing import Any

from PIL import Image

from bundle.errors import ImageError
from bundle.format.manifest import Input
from bundle.imaging.decode import ImageLimits, decode_image, read_input
from bundle.machine import address_space, tune_malloc
from bundle.worker.process import end_with
from bundle.worker.wire import Wire, WireClosed
from service.decoding.overlay import draw


def main(arguments: dict[str, Any]) -> None:
    """Decode images until the parent closes the socket.

    Args:
        arguments: limits (fields of `ImageLimits`), memory_bytes, socket (fd), parent (pid), and in
            a sandbox isolation, its report.
    """
    end_with(arguments["parent"])
    tune_malloc()
    # libtiff prints warnings about corrupt files directly to file descriptor 2.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    limits = ImageLimits(**arguments["limits"])
    wire = Wire(socket.socket(fileno=arguments["socket"]))
    limit = address_space() + arguments["memory_bytes"]
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    _warm_up(limits)
    # Ready.
    wire.send({"isolation": arguments.get("isolation", {})})
    while True:
        header, (data, *heatmap) = wire.receive()
        geometry = _geometry(header["geometry"])
        response: dict[str, Any] = {}
        try:
            if heatmap:
                results = [draw(data.tobytes(), geometry, heatmap[0], limits)]
            else:
                image = read_input(data.tobytes(), geometry, limits)
                response, results = {"image": asdict(image.info)}, [image.pixels]
        except ImageError as exc:
            response, results = {"error": exc.code, "detail": str(exc)}, []
        wire.send({**response, "id": header["id"]}, results)


def _warm_up(limits: ImageLimits) -> None:
    """Decode once, so that lazy loading in the libraries does not count against the first image."""
    for kind in ("JPEG", "PNG"):
        content = BytesIO()
        Image.new("RGB", (8, 8)).save(content, kind)
        decode_image(content.getvalue(), limits)


@functools.lru_cache(maxsize=256)
def _geometry(text: str) -> Input:
    """A model's geometry, cached: there are only a few."""
    return Input.model_validate_json(text)


if __name__ == "__main__":
    with contextlib.suppress(WireClosed):
        main(json.loads(sys.argv[1]))
