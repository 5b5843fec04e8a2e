"""From a bundle to the same bundle with faster artifacts: convert, quantize, measure, write.

    source artifact --convert--> openvino/fp32.xml (fp32, bf16) --quantize--> openvino/int8.xml
    TorchScript source, the same file --autocast--> bf16, and on a CUDA device fp16

The new artifacts go into a draft, a scratch bundle, because only bundles can be loaded. Every
artifact of the draft is measured through the process that serves it, on the CPU and on the CUDA
device if the machine has one. The record of the new version has the accuracy on the test images,
the largest difference of logits, the agreement on the best class, and the speed.
`bundle.worker.selection` decides by that record what is served.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bundle.acceleration.measure import (
    DOES_NOT_RUN,
    MAX_TOLERANCE,
    TIMEOUT_S,
    Acceleration,
    Measured,
    Pixels,
    Running,
    leave_out,
    measure,
)
from bundle.errors import AccelerationFailed
from bundle.format.manifest import Artifact, Input, Manifest, read_manifest
from bundle.format.repository import verify_files
from bundle.format.writer import BundleWriter
from bundle.imaging.decode import read_input
from bundle.runtimes import Device
from bundle.worker.blocking import RuntimeProcess
from bundle.worker.process import environment
from bundle.worker.selection import candidates

FOLDER = "openvino"
CONVERT, QUANTIZE = "bundle.acceleration.convert", "bundle.acceleration.quantize"  # children

Progress = Callable[[str], object]
Writer = Callable[..., BundleWriter]


@dataclass(frozen=True)
class Accelerated:
    """The version that was written, and its measurement in words."""

    path: Path
    manifest: Manifest
    left_out: list[str]  # what could not be made or run here, and why
    chosen: dict[Device, str]  # what `auto` takes on each device that was measured, and why


def missing_packages() -> list[str]:
    """The packages that acceleration needs and that are not installed."""
    return [name for name in ("openvino", "nncf") if importlib.util.find_spec(name) is None]


def accelerate(
    directory: Path,
    models: Path,
    options: Acceleration,
    *,
    progress: Progress = lambda _: None,
    writer: Writer = BundleWriter,
) -> Accelerated:
    """Write the next version of a bundle, with faster artifacts.

    Accelerated artifacts that it has are replaced; the source artifact and its training record
    stay.

    Args:
        directory: The bundle folder.
        models: The model repository that gets the new version.
        options: What the artifacts are made with and measured on.
        progress: Is called with what is being done.
        writer: Makes the writers of the draft and of the new version.

    Raises:
        AccelerationFailed: A package is missing, or the conversion fails.
        BundleError: The bundle is not in order, or its source artifact does not run here.
        OSError: The new version can't be written.
    """
    manifest = read_manifest(directory)
    verify_files(directory, manifest)
    with tempfile.TemporaryDirectory(prefix="accelerate-") as scratch:
        with writer(Path(scratch), manifest.name, durable=False) as draft_writer:
            copy_files(directory, manifest, draft_writer.directory, with_derived=False)
            artifacts = add_artifacts(
                draft_writer.directory, manifest.source, manifest.input, options, progress
            )
            draft = draft_writer.commit(manifest.model_dump(mode="json") | {"artifacts": artifacts})
        return finish(draft, manifest, models, options, progress=progress, writer=writer)


def finish(
    draft: Path,
    manifest: Manifest,
    models: Path,
    options: Acceleration,
    *,
    source: Running | None = None,
    progress: Progress,
    writer: Writer,
) -> Accelerated:
    """Measure the artifacts of a draft, and write it as the next version of its model.

    Args:
        draft: A bundle with the artifacts of `add_artifacts`.
        manifest: The record of the new version, but for its artifacts and their metrics.
        models, options, progress, writer: As for `accelerate`.
        source: The source artifact of the draft, where it is loaded already.

    Raises:
        BundleError, OSError: As `accelerate`.
    """
    left_out: list[str] = []
    if "cuda" not in options.devices and any(each.speed("cuda") for each in manifest.artifacts):
        left_out.append(
            "what was measured on a CUDA device: this machine has none, and version "
            f"{manifest.version} has it"
        )
    made = read_manifest(draft)
    measured = _measure(draft, made, manifest, options, source, left_out, progress)
    record = manifest.model_dump(mode="json") | measured._asdict()
    path = write_version(draft, made, record, models, writer)
    written = read_manifest(path)
    chosen: dict[Device, str] = {}
    for device in options.devices:
        first = candidates(written, "auto", cuda=device == "cuda")[0]
        chosen[device] = f"{first.artifact.id}: {first.reason}"
    return Accelerated(path, written, left_out, chosen)


def write_version(
    directory: Path,
    manifest: Manifest,
    record: Mapping[str, Any] | Manifest,
    models: Path,
    writer: Writer = BundleWriter,
    *,
    with_derived: bool = True,
    files: Iterable[tuple[str, bytes]] = (),
) -> Path:
    """Write a bundle, with new `files` (path, content), as the next version of its model."""
    with writer(models, manifest.name) as target:
        copy_files(directory, manifest, target.directory, with_derived=with_derived)
        for path, content in files:
            (target.directory / path).write_bytes(content)
        return target.commit(record)


def copy_files(
    directory: Path, manifest: Manifest, target: Path, *, with_derived: bool = True
) -> None:
    """Copy the files of a bundle, `with_derived` those of its accelerated artifacts too."""
    for file in manifest.files:
        if with_derived or not file.startswith(f"{FOLDER}/"):
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(directory / file, target / file)


def add_artifacts(
    directory: Path, source: Artifact, geometry: Input, options: Acceleration, progress: Progress
) -> list[dict[str, Any]]:
    """Make the accelerated artifacts in a folder that has the source artifact.

    Returns:
        The `artifacts` of a draft's manifest; nothing of them is measured.

    Raises:
        AccelerationFailed: A package is missing, or the conversion fails.
    """
    if missing := missing_packages():
        raise AccelerationFailed(
            "Acceleration needs packages that are not installed. Install the extras openvino and "
            f"accelerate. Missing: {', '.join(missing)}"
        )
    folder = directory / FOLDER
    folder.mkdir()
    progress("converting to OpenVINO")
    size = (str(geometry.height), str(geometry.width))
    fp32 = f"{FOLDER}/fp32.xml"
    made = [("openvino", "fp32", fp32), ("openvino", "bf16", fp32)]
    if source.format == "openvino":
        fp32 = source.path
        made = [("openvino", "bf16", fp32)]
    else:
        _run(CONVERT, source.format, directory / source.path, *size, directory / fp32)
    if options.calibration is not None and "int8" in options.precisions:
        progress(f"quantizing to int8 with {len(options.calibration)} images")
        with tempfile.NamedTemporaryFile(suffix=".npy") as images:
            np.save(images, options.calibration)
            images.flush()
            _run(QUANTIZE, directory / fp32, folder / "int8.xml", images.name)
        made.append(("openvino", "int8", f"{FOLDER}/int8.xml"))
    if source.format == "torchscript":
        # A CPU emulates fp16; it pays on CUDA only.
        halves = ("bf16", "fp16") if "cuda" in options.devices else ("bf16",)
        made += [("torchscript", half, source.path) for half in halves]
    wanted = [artifact for artifact in made if artifact[1] in options.precisions]
    if fp32 not in {path for _, _, path in wanted} and fp32 != source.path:
        for suffix in (".xml", ".bin"):
            (directory / fp32).with_suffix(suffix).unlink()
    return [source.model_dump(mode="json"), *(_artifact(*artifact) for artifact in wanted)]


def _measure(
    draft: Path,
    made: Manifest,
    manifest: Manifest,
    options: Acceleration,
    source: Running | None,
    left_out: list[str],
    progress: Progress,
) -> Measured:
    """Load every artifact of the draft on each of its devices, and measure what runs."""
    files = [draft / sample.file for sample in manifest.golden.samples]
    golden: Pixels = np.stack([read_input(each.read_bytes(), made.input).pixels for each in files])
    running: list[Running] = []
    with ExitStack() as stack:
        for artifact in made.artifacts:
            for device in _devices_of(artifact, options.devices):
                if artifact.source and source and source.process.info["device"] == device:
                    running.append(source)
                    continue
                process = stack.enter_context(
                    RuntimeProcess(draft, artifact.id, device, options.threads)
                )
                try:
                    process.start(TIMEOUT_S)
                except DOES_NOT_RUN as exc:
                    leave_out(artifact, device, exc, left_out)
                else:
                    running.append(Running(artifact, process))
        return measure(running, manifest, golden, options, left_out, progress)


def _devices_of(artifact: Artifact, devices: tuple[Device, ...]) -> tuple[Device, ...]:
    """Where an artifact is measured: fp16 on CUDA only, OpenVINO on the CPU only."""
    if artifact.precision == "fp16":
        return ("cuda",)
    return ("cpu",) if artifact.format == "openvino" else devices


def _artifact(form: str, precision: str, path: str) -> dict[str, Any]:
    not_measured = {
        "versions": {},
        "calibration_samples": 0,
        "compared_samples": 1,
        "max_logit_difference": 0.0,
        "top1_agreement": 0.0,
        "golden_tolerance": MAX_TOLERANCE,
    }
    return {
        "id": f"{form}-{precision}",
        "format": form,
        "path": path,
        "precision": precision,
        "source": False,
        "derivation": not_measured,
        "speeds": [],
    }


def _run(module: str, *arguments: str | Path) -> None:
    """Run one of our child processes to its end.

    Raises:
        AccelerationFailed: It failed; the text ends with its last line.
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
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        raise AccelerationFailed(
            f"The model can't be converted ({module}, exit status {done.returncode}). Serve the "
            "source artifact, or report this with the versions of the packages. "
            f"Received: {(lines[-1] if lines else 'nothing')[:500]}"
        )
