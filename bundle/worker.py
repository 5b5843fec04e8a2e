"""The child process that holds one loaded model: ``python -m bundle.worker <json>`` (:mod:`bundle.process`).

It reads the manifest, verifies the files, loads the runtime, runs the golden samples, says ``ready``, and then
answers one request after another until its socket closes or its parent is gone. It never raises to stderr on
the good path.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from bundle.errors import BundleError, RuntimeUnavailable
from bundle.golden import run_golden
from bundle.manifest import Artifact, Manifest, read_manifest
from bundle.repository import verify_files
from bundle.runtimes import Device, Model, describe, load_model
from bundle.wire import Array, Wire, WireClosed

_PARENT_CHECK_S = 0.5


def main(arguments: dict[str, Any]) -> None:
    """Load and serve. ``arguments``: bundle, artifact_id, device, threads, socket (fd), parent (pid)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent stops us
    threading.Thread(target=_end_with_parent, args=[arguments["parent"]], daemon=True).start()
    wire = Wire(socket.socket(fileno=arguments["socket"]))
    try:
        ready, model = _load(
            Path(arguments["bundle"]), arguments["artifact_id"], arguments["device"], arguments["threads"]
        )
    except BundleError as exc:
        wire.send({"error": exc.code, "detail": str(exc)})
        return
    wire.send(ready)
    while True:
        header, arrays = wire.receive()
        try:
            answer = _answer(model, header["method"], arrays)
        except Exception as exc:  # noqa: BLE001 - the frameworks raise every kind; the process stays up for the next request
            detail = f"The model failed on a request. Received: {describe(exc)}"
            wire.send({"error": RuntimeUnavailable.code, "detail": detail})
        else:
            wire.send({}, answer)


def _load(
    path: Path, artifact_id: str | None, device: Device, threads: int | None
) -> tuple[dict[str, Any], Model]:
    started = time.monotonic()
    manifest = read_manifest(path)
    verify_files(path, manifest)
    artifact = choose_artifact(manifest, artifact_id)
    model = load_model(path, artifact, device, threads)
    difference = run_golden(path, manifest, model)
    ready = {
        "runtime": model.runtime,
        "runtime_version": model.runtime_version,
        "precision": artifact.precision,
        "device": model.device,
        "artifact_id": artifact.id,
        "height": manifest.input.height,
        "width": manifest.input.width,
        "classes": len(manifest.labels),
        "feature_height": manifest.architecture.feature_map.height,
        "feature_width": manifest.architecture.feature_map.width,
        "golden_max_difference": difference,
        "load_seconds": time.monotonic() - started,
    }
    return ready, model


def choose_artifact(manifest: Manifest, artifact_id: str | None) -> Artifact:
    """The artifact with that id; None means the source. Raises :class:`RuntimeUnavailable`."""
    if artifact_id is None:
        return manifest.source
    for artifact in manifest.artifacts:
        if artifact.id == artifact_id:
            return artifact
    ids = ", ".join(artifact.id for artifact in manifest.artifacts)
    raise RuntimeUnavailable(f"The bundle has no such artifact. It has: {ids}. Received: {artifact_id!r}")


def _answer(model: Model, method: str, arrays: list[Array]) -> list[Array]:
    if method == "infer":
        answer: list[Array] = [model.infer(arrays[0])]
    else:
        answer = list(model.explain(arrays[0], arrays[1]))
    if not all(np.isfinite(array).all() for array in answer):
        raise ValueError("the answer holds NaN or infinity")
    return answer


def _end_with_parent(parent: int) -> None:
    """End this process when the parent is gone.

    Not PR_SET_PDEATHSIG: that fires when the *thread* that started us ends, and callers start us from pools.
    """
    while os.getppid() == parent:
        time.sleep(_PARENT_CHECK_S)
    os._exit(0)


if __name__ == "__main__":
    with contextlib.suppress(WireClosed):
        main(json.loads(sys.argv[1]))
    # TensorFlow's and CUDA's threads can hang or crash an orderly interpreter exit; nothing is left to save.
    sys.stderr.flush()
    os._exit(0)
