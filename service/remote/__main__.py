"""The process of one look at a store, `python -m service.remote JSON`; it ends with the look.

The libraries take 40 to 90 MB and seconds to import, and the credentials stay here: neither the web
process nor those of models and decoders have them to lose. It answers frames of
`bundle.worker.wire`; a step that takes long answers again and again that it goes on.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import socket
import sys
import time
from pathlib import Path
from typing import Any

from bundle.worker.process import STORES, end_with
from bundle.worker.wire import Wire, WireClosed
from service.options.address import without_secrets
from service.remote.copying import Copying, Steps
from service.remote.folder import Folder
from service.remote.stores import Store, StoreError

# More than any listing, manifest or file of a server without ranges should need.
MEMORY_BYTES = 2 * 2**30
# A step answers at least so often, in seconds.
ANSWER_S = 2.0
# Shorter values are no secrets, and words of ordinary texts.
SECRET_CHARACTERS = 8


def main(arguments: dict[str, Any]) -> None:
    """Answer until the parent closes the socket.

    Args:
        arguments: address, folder, socket (fd), parent (pid).
    """
    end_with(arguments["parent"])
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    # The libraries log what they do, with URLs; the errors say what is needed.
    logging.disable()
    wire = Wire(socket.socket(fileno=arguments["socket"]))
    wire.send({})
    folder = Folder(Path(arguments["folder"]))
    with folder.locked() as is_ours:
        answers = Answers(arguments["address"], folder) if is_ours else None
        while True:
            header, _ = wire.receive()
            answer = {"busy": True} if answers is None else answers.answer(header)
            wire.send({**answer, "id": header["id"]})


class Answers:
    """What the parent is answered: the steps of one `Copying`, a piece at a time.

    Args:
        address: of the models.
        folder: their copy.
    """

    def __init__(self, address: str, folder: Folder) -> None:
        self._address = address
        self._folder = folder
        self._copying: Copying | None = None
        self._steps: Steps | None = None

    def answer(self, header: dict[str, Any]) -> dict[str, Any]:
        """Begin the step `do`, or go on with it (`more`).

        Returns the result of the step with `done`, that it goes on, or `error`, why it can't.
        """
        try:
            if header["do"] != "more" or self._steps is None:
                self._steps = self._begin(header)
            until = time.monotonic() + ANSWER_S
            while time.monotonic() < until:
                next(self._steps)
        except StopIteration as end:
            return {**end.value, "done": True}
        except (StoreError, OSError) as exc:
            return {"error": clean(str(exc))}
        except MemoryError:
            return {"error": f"what it sends does not fit into {MEMORY_BYTES} bytes of memory"}
        return {"done": False}

    def _begin(self, header: dict[str, Any]) -> Steps:
        if self._copying is None:
            self._copying = Copying(Store(self._address, clean), self._folder)
        if header["do"] == "find":
            return self._copying.find()
        if header["do"] == "fetch":
            return self._copying.fetch(header["needed"], header["damaged"])
        return self._copying.switch(header["needed"])


def clean(text: str) -> str:
    """The text without the credentials of this process and those in URLs."""
    for name, value in os.environ.items():
        if name.upper().startswith(STORES) and len(value) >= SECRET_CHARACTERS:
            text = text.replace(value, f"[{name}]")
    return without_secrets(text)


if __name__ == "__main__":
    with contextlib.suppress(WireClosed):
        main(json.loads(sys.argv[1]))
    os._exit(0)
