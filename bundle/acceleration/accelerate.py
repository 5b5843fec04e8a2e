"""From a bundle to the same bundle with faster artifacts: convert, quantise, measure against the source, write.

    source artifact --convert--> openvino/fp32.xml (runs in fp32 and in bf16) --quantize--> openvino/int8.xml
    TorchScript source, the same file --autocast--> bf16, and where there is a CUDA device fp16

Every artifact is measured through the process that serves it, on the CPU and on the CUDA device of this machine if it
has one, and the manifest records what was found: accuracy on the test images, the largest difference of logits, how
often the best class is the same, speed. Nothing here decides what is served; :mod:`bundle.worker.selection` does, by that record.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bundle.acceleration.measure import (
    DOES_NOT_RUN,
    LARGEST_TOLERANCE,
    TIMEOUT_S,
    Pixels,
    TestImages,
    leave_out,
    measure,
)
from bundle.errors import AccelerationFailed
from bundle.format.manifest import Artifact, Manifest, read_manifest
from bundle.format.repository import verify_files
from bundle.format.writer import BundleWriter
from bundle.machine import cuda_devices
from bundle.runtimes import Device
from bundle.worker.blocking import RuntimeProcess
from bundle.worker.process import environment
from bundle.worker.selection import candidates

FOLDER = "openvino"
CONVERT, QUANTIZE = (
    "bundle.acceleration.convert",
    "bundle.acceleration.quantize",
)  # the child processes


@dataclass(frozen=True)
class Accelerated:
    """The version that was written, and what it says about itself."""

    path: Path
    manifest: Manifest
    left_out: list[str]  # what could not be made or run here, and why
    chosen: dict[Device, str]  # what `auto` takes on each device that was measured on, and why


def missing_packages() -> list[str]:
    """The packages that :func:`accelerate` needs and that are not installed."""
    return [name for name in ("openvino", "nncf") if importlib.util.find_spec(name) is None]


def accelerate(
    directory: Path,
    models: Path,
    *,
    calibration: Pixels | None,
    test: TestImages | None,
    threads: int | None = None,
    say: Callable[[str], object] = lambda _: None,
) -> Accelerated:
    """Write the next version of the bundle in ``directory`` into the repository ``models``, with faster artifacts.

    Existing accelerated artifacts are replaced; the source artifact and its training record stay.

    Args:
        calibration: images as in training, for the ranges of int8, a few hundred; None: no int8.
        test: None: no accuracy is measured, and the artifacts are compared on the calibration or golden images.
        threads: CPU threads of the measurement; None: all.
        say: is told what is being done, in words.

    Raises:
        AccelerationFailed: a package is missing, or the conversion fails.
        BundleError: the bundle is not in order, or its source artifact does not run here.
        OSError: the new version can't be written.
    """
    if missing := missing_packages():
        raise AccelerationFailed(
            f"Acceleration needs packages that are not installed. Install the extras openvino and accelerate. "
            f"Missing: {', '.join(missing)}"
        )
    manifest = read_manifest(directory)
    verify_files(directory, manifest)
    with tempfile.TemporaryDirectory(prefix="accelerate-") as scratch, ExitStack() as stack:
        left_out: list[str] = []
        if "cuda" not in _devices() and any(
            artifact.speed("cuda") for artifact in manifest.artifacts
        ):
            left_out.append(
                f"what was measured on a CUDA device: this machine has none, and version {manifest.version} has it"
            )
        draft = _draft(directory, manifest, Path(scratch), calibration, say)
        made = read_manifest(draft)
        running: list[tuple[Artifact, RuntimeProcess]] = []
        for artifact in made.artifacts:
            for device in _devices_of(artifact):
                process = stack.enter_context(RuntimeProcess(draft, artifact.id, device, threads))
                try:
                    process.start(TIMEOUT_S)
                except DOES_NOT_RUN as exc:
                    leave_out(artifact, device, exc, left_out)
                else:
                    running.append((artifact, process))
        records, metrics = measure(
            draft, manifest, running, calibration, test, threads, left_out, say
        )
        with BundleWriter(models, manifest.name) as writer:
            _copy(draft, made, writer.directory)
            path = writer.commit(
                manifest.model_dump(mode="json") | {"artifacts": records, "metrics": metrics}
            )
    written = read_manifest(path)
    chosen: dict[Device, str] = {}
    for device in _devices():
        first = candidates(written, "auto", cuda=device == "cuda")[0]
        chosen[device] = f"{first.artifact.id}: {first.reason}"
    return Accelerated(path, written, left_out, chosen)


def republish(directory: Path, models: Path) -> Path:
    """Write the bundle in ``directory`` as the next version into the repository ``models``, as it is."""
    manifest = read_manifest(directory)
    with BundleWriter(models, manifest.name) as writer:
        _copy(directory, manifest, writer.directory)
        return writer.commit(manifest)


def _draft(
    directory: Path,
    manifest: Manifest,
    scratch: Path,
    calibration: Pixels | None,
    say: Callable[[str], object],
) -> Path:
    """A bundle with the new artifacts and a record of nothing, because only bundles can be loaded and measured."""
    with BundleWriter(scratch, manifest.name) as writer:
        _copy(directory, manifest, writer.directory)
        folder = writer.directory / FOLDER
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        say("converting to OpenVINO")
        _run(CONVERT, directory.absolute(), folder / "fp32.xml")
        wanted = [("fp32", "fp32.xml"), ("bf16", "fp32.xml")]
        if calibration is not None:
            say(f"quantising to int8 with {len(calibration)} images")
            images = scratch / "calibration.npy"
            np.save(images, calibration)
            _run(QUANTIZE, folder / "fp32.xml", folder / "int8.xml", images)
            wanted.append(("int8", "int8.xml"))
        made = [_artifact("openvino", precision, f"{FOLDER}/{file}") for precision, file in wanted]
        if manifest.source.format == "torchscript":
            # A processor converts fp16 back and forth; it pays on CUDA alone.
            halves = ("bf16", "fp16") if "cuda" in _devices() else ("bf16",)
            made += [_artifact("torchscript", half, manifest.source.path) for half in halves]
        return writer.commit(
            manifest.model_dump(mode="json")
            | {"artifacts": [manifest.source.model_dump(mode="json"), *made]}
        )


def _devices() -> list[Device]:
    """What this machine can measure on; the CPU comes first."""
    return ["cpu", "cuda"] if cuda_devices() else ["cpu"]


def _devices_of(artifact: Artifact) -> list[Device]:
    """Where an artifact is to be measured: fp16 is for CUDA, OpenVINO for processors."""
    if artifact.precision == "fp16":
        return ["cuda"]
    return ["cpu"] if artifact.format == "openvino" else _devices()


def _artifact(form: str, precision: str, path: str) -> dict[str, Any]:
    unknown = {
        "versions": {},
        "calibration_samples": 0,
        "compared_samples": 1,
        "max_logit_difference": 0.0,
        "top1_agreement": 0.0,
        "golden_tolerance": LARGEST_TOLERANCE,
    }
    return {
        "id": f"{form}-{precision}",
        "format": form,
        "path": path,
        "precision": precision,
        "source": False,
        "derivation": unknown,
        "speeds": [],
    }


def _copy(directory: Path, manifest: Manifest, target: Path) -> None:
    for file in manifest.files:
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(directory / file, target / file)


def _run(module: str, *arguments: Path) -> None:
    """Run one of our child processes to its end.

    Raises:
        AccelerationFailed: it failed; the text ends with its last line.
    """
    done = subprocess.run(
        [sys.executable, "-P", "-m", module, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment("cpu", None),
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        last = [line.strip() for line in done.stdout.splitlines() if line.strip()][-1:] or [
            "nothing"
        ]
        raise AccelerationFailed(
            f"The model can't be converted ({module}, exit status {done.returncode}). Serve the source artifact, or "
            f"report this with the versions of the packages. Received: {last[0][:500]}"
        )
