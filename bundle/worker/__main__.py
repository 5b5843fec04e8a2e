"""The child process that holds one loaded model: ``python -m bundle.worker <json>`` (:mod:`bundle.worker.blocking`).

It reads the manifest, verifies the files, loads the runtime, runs the golden samples, says ``ready``, and then
answers requests, as many at once as the model has streams, until its socket closes or its parent is gone. It never
raises to stderr on the good path.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bundle.errors import BundleError, GoldenMismatch, RuntimeUnavailable
from bundle.format.manifest import Manifest, read_manifest
from bundle.format.repository import verify_files
from bundle.machine import cuda_devices, tune_malloc, usable_cores
from bundle.runtimes import Device, Model, describe, load_model
from bundle.worker.process import end_with
from bundle.worker.selection import Choice, choices
from bundle.worker.selftest import run_golden
from bundle.worker.wire import Array, Wire, WireClosed


def main(arguments: dict[str, Any]) -> None:
    """Load and serve. ``arguments``: bundle, artifact, device, threads, compiled, socket (fd), parent (pid)."""
    end_with(arguments["parent"])
    tune_malloc()
    wire = Wire(socket.socket(fileno=arguments["socket"]))
    try:
        ready, model = _load(
            Path(arguments["bundle"]),
            arguments["artifact"],
            arguments["device"],
            arguments["threads"] or usable_cores(),
            arguments["compiled"],
        )
    except BundleError as exc:
        wire.send({"error": exc.code, "detail": str(exc)})
        return
    wire.send(ready)
    RequestLoop(wire, model).run()


class RequestLoop:
    """Takes one request after another; with several streams the model works on as many, and they are answered in order."""

    def __init__(self, wire: Wire, model: Model) -> None:
        self._wire = wire
        self._model = model
        self._reading = threading.Lock()
        self._last = threading.Event()  # set once the request that was read last has its answer
        self._last.set()

    def run(self) -> None:
        """Answer until the socket closes, which raises :class:`WireClosed`."""
        for _ in range(self._model.streams - 1):
            threading.Thread(target=self._run_beside, daemon=True).start()
        self._run()

    def _run_beside(self) -> None:
        with contextlib.suppress(WireClosed):  # the main thread is told as well
            self._run()

    def _run(self) -> None:
        while True:
            with self._reading:
                header, arrays = self._wire.receive()
                before, self._last = self._last, threading.Event()
                mine = self._last
            try:
                answer = _answer(self._model, header["method"], arrays)
            except Exception as exc:  # noqa: BLE001 - the frameworks raise every kind; the process stays up for the next request
                detail = f"The model failed on a request. Received: {describe(exc)}"
                said: dict[str, Any] = {"error": RuntimeUnavailable.code, "detail": detail}
                answer = []
            else:
                said = {}
            before.wait()
            try:
                self._wire.send(said, answer)
            finally:
                mine.set()  # whatever happened, the others would wait for ever


def _load(
    path: Path, wanted: str, device: Device, threads: int, compiled: str | None
) -> tuple[dict[str, Any], Model]:
    started = time.monotonic()
    manifest = read_manifest(path)
    verify_files(path, manifest)
    # Named by what it was compiled from: another bundle in the same place finds nothing of this one.
    folder = Path(compiled) / manifest.digest if compiled else None
    choice, model, difference = _load_first(path, manifest, wanted, device, threads, folder)
    artifact = choice.artifact
    measured = artifact.speed(model.device)
    ready = {
        "digest": manifest.digest,
        "runtime": model.runtime,
        "runtime_version": model.runtime_version,
        "precision": artifact.precision,
        "device": model.device,
        "artifact_id": artifact.id,
        "choice": choice.reason,
        "batch_size": measured.batch_size if measured else None,
        "streams": model.streams,
        "height": manifest.input.height,
        "width": manifest.input.width,
        "classes": len(manifest.labels),
        "feature_height": manifest.architecture.feature_map.height,
        "feature_width": manifest.architecture.feature_map.width,
        "golden_max_difference": difference,
        "load_seconds": time.monotonic() - started,
    }
    return ready, model


def _load_first(
    path: Path, manifest: Manifest, wanted: str, device: Device, threads: int, compiled: Path | None
) -> tuple[Choice, Model, float]:
    """The first of the choices that loads and passes its self-test on this machine, and what the test differed by."""
    cuda = device != "cpu" and cuda_devices() > 0
    possible = choices(manifest, wanted, cuda=cuda or device == "cuda")
    passed_over = ""
    for choice in possible:
        try:
            model = load_model(path, choice.artifact, device, threads, compiled)
            difference = run_golden(path, manifest, choice.artifact, model)
        except (RuntimeUnavailable, GoldenMismatch) as exc:
            if choice is possible[-1]:
                raise
            passed_over += f"; {choice.artifact.id} was passed over: {exc}"
        else:
            return replace(choice, reason=choice.reason + passed_over), model, difference
    raise AssertionError("there is always the source artifact, or the one that was named")


def _answer(model: Model, method: str, arrays: list[Array]) -> list[Array]:
    if method == "infer":
        answer: list[Array] = [model.infer(arrays[0])]
    elif method == "infer_on_stream":
        answer = [model.infer_on_stream(arrays[0])]
    else:
        answer = list(model.explain(arrays[0], arrays[1]))
    if not all(np.isfinite(array).all() for array in answer):
        raise ValueError("the answer holds NaN or infinity")
    return answer


if __name__ == "__main__":
    with contextlib.suppress(WireClosed):
        main(json.loads(sys.argv[1]))
    # TensorFlow's and CUDA's threads can hang or crash an orderly interpreter exit; nothing is left to save.
    sys.stderr.flush()
    os._exit(0)
