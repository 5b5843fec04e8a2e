"""What tests do to a running service and to its bundles."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.bundle.worker.processes import pause
from tests.service.conftest import Server
from tests.service.images import coloured


def edit_manifest(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


@contextmanager
def paused(server: Server) -> Iterator[int]:
    """The process of the only model, which hangs."""
    (pid,) = server.worker_pids().values()
    pause(pid)
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def ask_and_stay(server: Server, image: bytes | None = None) -> socket.socket:
    """A request whose response is not awaited."""
    connection = socket.create_connection(("127.0.0.1", server.port))
    image = coloured() if image is None else image
    head = f"host: x\r\ncontent-type: image/png\r\ncontent-length: {len(image)}\r\n\r\n"
    connection.sendall(f"POST /predict HTTP/1.1\r\n{head}".encode() + image)
    return connection
