"""The process that holds one loaded model: `python -m bundle.worker <json>`.

It reads the manifest, verifies the files, loads the runtime, runs the golden samples, sends a ready
frame, and then serves requests until its socket closes or its parent is gone. A request is a batch:
image files, which are decoded here, or pixels. It prints nothing on the good path.
`bundle.worker.model_process` is the other side.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from bundle.errors import (
    BundleError,
    GoldenMismatch,
    ImageError,
    RuntimeUnavailable,
    WorkerDied,
)
from bundle.format.manifest import Input, Manifest, manifest_bytes, parse_manifest
from bundle.format.repository import verify_files
from bundle.imaging.decode import ImageLimits, read_input
from bundle.machine import cuda_devices, trim_malloc, tune_malloc, usable_cores
from bundle.runtimes import Device, Model, describe, load_model
from bundle.worker.process import end_with
from bundle.worker.selection import Candidate, candidates
from bundle.worker.selftest import run_golden
from bundle.worker.wire import Array, Wire, WireClosed

# How long a thread keeps the interpreter from others that wait for it; decoding leaves and enters
# it all the time. With Python's 5 ms ResNet-20 answers 0.87 times as many requests.
SWITCH_S = 0.0005


def main(arguments: dict[str, Any]) -> None:
    """Load and serve.

    Args:
        arguments: bundle, artifact, device, threads, compiled, limits (fields of `ImageLimits`),
            socket (fd), parent (pid), in a sandbox isolation, its report, and of a signed bundle
            manifest_sha256.
    """
    end_with(arguments["parent"])
    tune_malloc()
    sys.setswitchinterval(SWITCH_S)
    wire = Wire(socket.socket(fileno=arguments["socket"]))
    threads = arguments["threads"] or usable_cores()
    try:
        ready, model, geometry = _load(
            Path(arguments["bundle"]),
            arguments["artifact"],
            arguments["device"],
            threads,
            arguments["compiled"],
            arguments.get("manifest_sha256"),
        )
    except BundleError as exc:
        wire.send({"error": exc.code, "detail": str(exc)})
        return
    trim_malloc()
    wire.send({**ready, "isolation": arguments.get("isolation", {})})
    RequestLoop(wire, model, geometry, ImageLimits(**arguments["limits"]), threads).run()


class RequestLoop:
    """Serves requests on threads: one for each stream of the model, and one to decode ahead.

    Args:
        wire: Where requests come from.
        model: What runs them.
        geometry: Of the model's input.
        limits: Of image files.
        threads: That decode at once.
    """

    def __init__(
        self, wire: Wire, model: Model, geometry: Input, limits: ImageLimits, threads: int
    ) -> None:
        self._wire = wire
        self._model = model
        self._geometry = geometry
        self._limits = limits
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        # Passes that run at once: the threads of two would take the cores from each other.
        self._streams = threading.Semaphore(model.streams)
        # As many streams as cores decode on all of them already.
        self._pool = ThreadPoolExecutor(threads) if threads > model.streams else None

    def run(self) -> None:
        """Serve until the socket closes.

        Raises:
            WireClosed: The socket is closed.
        """
        for _ in range(self._model.streams):
            threading.Thread(target=self._run_quietly, daemon=True).start()
        self._run()

    def _run_quietly(self) -> None:
        with contextlib.suppress(WireClosed):  # the main thread gets it as well
            self._run()

    def _run(self) -> None:
        while True:
            with self._reading:
                header, arrays = self._wire.receive()
            response: dict[str, Any] = {}
            try:
                response, results = self._respond(header, arrays)
            except Exception as exc:  # noqa: BLE001 - the frameworks raise any type
                detail = f"The model failed on a request. Received: {describe(exc)}"
                response, results = {"error": RuntimeUnavailable.code, "detail": detail}, []
            with self._writing:
                self._wire.send({**response, "id": header["id"]}, results)

    def _respond(
        self, header: dict[str, Any], arrays: list[Array]
    ) -> tuple[dict[str, Any], list[Array]]:
        match header["method"]:
            case "classify":
                return self._classify(
                    arrays, header.get("extras", []), exclusive=header["exclusive"]
                )
            case _:
                with self._streams:
                    outputs = self._model.run(*arrays, embeddings=header["embeddings"])
                return {}, _finite(each for each in outputs if each is not None)

    def _classify(
        self, images: list[Array], extras: list[list[Any]], *, exclusive: bool
    ) -> tuple[dict[str, Any], list[Array]]:
        """Decode what is not decoded, and classify what could be.

        Args:
            images: Files and pixels.
            extras: `Extras` of some images, each after the position of its image. Their heat maps
                and embeddings follow the logits, without those of the others.
            exclusive: Use all cores.
        """
        started = time.perf_counter()
        mapped = map if self._pool is None or len(images) == 1 else self._pool.map
        found = list(mapped(self._decode, images))
        response: dict[str, Any] = {
            "images": [record for record, _ in found],
            "decode_s": time.perf_counter() - started,
            "infer_s": 0.0,
        }
        pixels = [each for _, each in found if each is not None]
        if not pixels:
            return response, []
        explained, embedded = _rows(found, extras)
        class_index = None
        if explained:
            class_index = np.zeros(len(pixels), np.int64)
            class_index[[*explained]] = [*explained.values()]
        with self._streams:
            started = time.perf_counter()
            outputs = self._model.run(
                np.stack(pixels),
                class_index,
                embeddings=bool(embedded),
                on_stream=not exclusive,
            )
        response["infer_s"] = time.perf_counter() - started
        results = [outputs.logits]
        if outputs.heatmaps is not None:
            results.append(outputs.heatmaps[[*explained]])
        if outputs.embeddings is not None:
            results.append(outputs.embeddings[embedded])
        return response, _finite(results)

    def _decode(self, image: Array) -> tuple[dict[str, Any], Array | None]:
        """The record of an image, and its pixels unless it can't be decoded."""
        if image.ndim == 3:
            return {}, image
        try:
            decoded = read_input(image.tobytes(), self._geometry, self._limits)
        except ImageError as exc:
            return {"error": exc.code, "detail": str(exc)}, None
        return {"info": asdict(decoded.info)}, decoded.pixels


def _rows(
    found: Sequence[tuple[Any, Array | None]], extras: list[list[Any]]
) -> tuple[dict[int, int], list[int]]:
    """The class of each row of a batch that has a heat map, and the rows that have an embedding."""
    explained: dict[int, int] = {}
    embedded: list[int] = []
    for position, class_index, embedding in extras:
        if found[position][1] is None:
            continue
        row = sum(pixels is not None for _, pixels in found[:position])
        if class_index is not None:
            explained[row] = class_index
        if embedding:
            embedded.append(row)
    return explained, embedded


def _finite(arrays: Iterable[Array]) -> list[Array]:
    checked = list(arrays)
    if not all(np.isfinite(array).all() for array in checked):
        raise ValueError("the logits, a heat map or an embedding contain NaN or infinity")
    return checked


def _load(
    path: Path,
    requested: str,
    device: Device,
    threads: int,
    compiled: str | None,
    signed: str | None,
) -> tuple[dict[str, Any], Model, Input]:
    started = time.monotonic()
    data = manifest_bytes(path)
    if signed is not None and hashlib.sha256(data).hexdigest() != signed:
        raise WorkerDied("The bundle was replaced after its signature was checked.")
    manifest = parse_manifest(data)
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
        "embedding": model.embedding,
        "golden_max_difference": difference,
        "load_seconds": time.monotonic() - started,
    }
    return ready, model, manifest.input


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
            note = f"; {model.note}" if model.note else ""
            reason = candidate.reason + passed_over + note
            return replace(candidate, reason=reason), model, difference
    raise AssertionError("there is always the source artifact, or the one that was named")


if __name__ == "__main__":
    with contextlib.suppress(WireClosed):
        main(json.loads(sys.argv[1]))
    # TensorFlow's and CUDA's threads can hang or crash an orderly exit of the interpreter.
    sys.stderr.flush()
    os._exit(0)
