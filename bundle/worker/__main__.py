"""The process that holds one loaded model: `python -m bundle.worker <json>`.

It reads the manifest, verifies the files, loads the runtime, runs the golden samples, sends a ready
frame, and then serves requests, one per stream of the model at once, until its socket closes or its
parent is gone. It prints nothing on the good path. `bundle.worker.blocking` and
`bundle.worker.client` are the other side.
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
from bundle.worker.selection import Candidate, candidates
from bundle.worker.selftest import run_golden
from bundle.worker.wire import Array, Wire, WireClosed


def main(arguments: dict[str, Any]) -> None:
    """Load and serve.

    Args:
        arguments: bundle, artifact, device, threads, compiled, socket (fd), parent (pid).
    """
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
    """Serves requests with one thread per stream of the model; responses keep their order."""

    def __init__(self, wire: Wire, model: Model) -> None:
        self._wire = wire
        self._model = model
        self._reading = threading.Lock()
        # Set once the response to the request that was read last has been sent.
        self._last = threading.Event()
        self._last.set()

    def run(self) -> None:
        """Serve until the socket closes.

        Raises:
            WireClosed: The socket is closed.
        """
        for _ in range(self._model.streams - 1):
            threading.Thread(target=self._run_quietly, daemon=True).start()
        self._run()

    def _run_quietly(self) -> None:
        with contextlib.suppress(WireClosed):  # the main thread gets it as well
            self._run()

    def _run(self) -> None:
        while True:
            with self._reading:
                header, arrays = self._wire.receive()
                before, self._last = self._last, threading.Event()
                mine = self._last
            response: dict[str, Any] = {}
            try:
                results = _infer(self._model, header["method"], arrays)
            except Exception as exc:  # noqa: BLE001 - the frameworks raise any type
                detail = f"The model failed on a request. Received: {describe(exc)}"
                response, results = {"error": RuntimeUnavailable.code, "detail": detail}, []
            before.wait()
            try:
                self._wire.send(response, results)
            finally:
                mine.set()  # also after an error, or the other threads would wait for ever


def _load(
    path: Path, requested: str, device: Device, threads: int, compiled: str | None
) -> tuple[dict[str, Any], Model]:
    started = time.monotonic()
    manifest = read_manifest(path)
    verify_files(path, manifest)
    # Named after its source: another bundle at the same path finds nothing of this one.
    folder = Path(compiled) / manifest.digest if compiled else None
    candidate, model, difference = _load_first(path, manifest, requested, device, threads, folder)
    artifact = candidate.artifact
    measured = artifact.speed(model.device)
    ready = {
        "digest": manifest.digest,
        "runtime": model.runtime,
        "runtime_version": model.runtime_version,
        "precision": artifact.precision,
        "device": model.device,
        "artifact_id": artifact.id,
        "choice": candidate.reason,
        "batch_size": measured.batch_size if measured else None,
        "streams": model.streams,
        "height": manifest.input.height,
        "width": manifest.input.width,
        "classes": len(manifest.labels),
        "heatmap": manifest.heatmap_size,
        "golden_max_difference": difference,
        "load_seconds": time.monotonic() - started,
    }
    return ready, model


def _load_first(
    path: Path,
    manifest: Manifest,
    requested: str,
    device: Device,
    threads: int,
    compiled: Path | None,
) -> tuple[Candidate, Model, float]:
    """The first candidate that loads and passes its self-test, and the largest score difference."""
    cuda = device != "cpu" and cuda_devices() > 0
    possible = candidates(manifest, requested, cuda=cuda or device == "cuda")
    passed_over = ""
    for candidate in possible:
        try:
            model = load_model(path, candidate.artifact, device, threads, compiled)
            difference = run_golden(path, manifest, candidate.artifact, model)
        except (RuntimeUnavailable, GoldenMismatch) as exc:
            if candidate is possible[-1]:
                raise
            passed_over += f"; {candidate.artifact.id} was passed over: {exc}"
        else:
            return replace(candidate, reason=candidate.reason + passed_over), model, difference
    raise AssertionError("there is always the source artifact, or the one that was named")


def _infer(model: Model, method: str, arrays: list[Array]) -> list[Array]:
    if method == "infer":
        results: list[Array] = [model.infer(arrays[0])]
    elif method == "infer_on_stream":
        results = [model.infer_on_stream(arrays[0])]
    else:
        results = list(model.explain(arrays[0], arrays[1]))
    if not all(np.isfinite(array).all() for array in results):
        raise ValueError("the logits or the heat map contain NaN or infinity")
    return results


if __name__ == "__main__":
    with contextlib.suppress(WireClosed):
        main(json.loads(sys.argv[1]))
    # TensorFlow's and CUDA's threads can hang or crash an orderly exit of the interpreter.
    sys.stderr.flush()
    os._exit(0)
