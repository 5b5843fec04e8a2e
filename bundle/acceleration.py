"""From a bundle to the same bundle with faster artifacts: convert, quantise, measure against the source, write.

    source artifact --convert--> openvino/fp32.xml (runs in fp32 and in bf16) --quantize--> openvino/int8.xml
    TorchScript source, the same file --autocast--> bf16, and where there is a CUDA device fp16

Every artifact is measured through the process that serves it, on the CPU and on the CUDA device of this machine if it
has one, and the manifest records what was found: accuracy on the test images, the largest difference of logits, how
often the best class is the same, speed. Nothing here decides what is served; :mod:`bundle.choice` does, by that record.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bundle import speed
from bundle.accuracy import accuracy_metric
from bundle.batches import in_batches
from bundle.child import environment
from bundle.choice import DEVICE_NAMES, RUNTIME_NAMES, choices
from bundle.errors import AccelerationFailed, RuntimeUnavailable
from bundle.image import read_input
from bundle.machine import cuda_devices
from bundle.manifest import Artifact, Manifest, read_manifest
from bundle.process import RuntimeProcess
from bundle.repository import verify_files
from bundle.runtimes import Device
from bundle.scores import calibrated_softmax
from bundle.writer import BundleWriter

FOLDER = "openvino"
CONVERT, QUANTIZE = "bundle.convert", "bundle.quantize"  # the child processes
TIMEOUT_S = 300.0  # to load, and for one forward pass
# The self-test allows an accelerated artifact twice what it differed by here, and something for other processors.
TOLERANCE_FACTOR, TOLERANCE_ROOM = 2.0, 0.02
LARGEST_TOLERANCE = 0.5

Pixels = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TestImages:
    """Images that the accuracy is measured on."""

    pixels: Pixels  # [N, H, W, 3]
    labels: npt.NDArray[np.int64]  # [N]


@dataclass(frozen=True)
class Accelerated:
    """The version that was written, and what it says about itself."""

    path: Path
    manifest: Manifest
    left_out: list[str]  # what could not be made or run here, and why
    chosen: dict[Device, str]  # what `auto` takes on each device that was measured on, and why


class Answers(NamedTuple):
    """What an artifact answers on one device."""

    logits: Logits  # [N, C], of the images that all are compared on
    golden_scores: npt.NDArray[np.float64]  # [G, C], of the golden pictures


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

    Those that the bundle has already are made anew; the source artifact and the record of its training stay.

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
        draft = _draft(directory, manifest, Path(scratch), calibration, say)
        made = read_manifest(draft)
        left_out: list[str] = []
        running: list[tuple[Artifact, RuntimeProcess]] = []
        devices = _devices()
        for artifact in made.artifacts:
            for device in devices if artifact.format != "openvino" else devices[:1]:
                process = stack.enter_context(RuntimeProcess(draft, artifact.id, device, threads))
                try:
                    process.start(TIMEOUT_S)
                except RuntimeUnavailable as exc:
                    if artifact.source and device == "cpu":
                        raise
                    left_out.append(f"{artifact.id} on {DEVICE_NAMES[device]}: {exc}")
                else:
                    running.append((artifact, process))
        records, metrics = _measure(draft, manifest, running, calibration, test, threads, say)
        with BundleWriter(models, manifest.name) as writer:
            _copy(draft, made, writer.directory)
            path = writer.commit(_fields(manifest) | {"artifacts": records, "metrics": metrics})
    written = read_manifest(path)
    chosen: dict[Device, str] = {}
    for device in _devices():
        first = choices(written, "auto", cuda=device == "cuda")[0]
        chosen[device] = f"{first.artifact.id}: {first.reason}"
    return Accelerated(path, written, left_out, chosen)


def republish(directory: Path, models: Path) -> Path:
    """Write the bundle in ``directory`` as the next version into the repository ``models``, as it is."""
    manifest = read_manifest(directory)
    with BundleWriter(models, manifest.name) as writer:
        _copy(directory, manifest, writer.directory)
        return writer.commit(_fields(manifest))


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
            _fields(manifest) | {"artifacts": [manifest.source.model_dump(mode="json"), *made]}
        )


def _devices() -> list[Device]:
    """What this machine can measure on; the CPU comes first."""
    return ["cpu", "cuda"] if cuda_devices() else ["cpu"]


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


def _measure(
    draft: Path,
    manifest: Manifest,
    running: list[tuple[Artifact, RuntimeProcess]],
    calibration: Pixels | None,
    test: TestImages | None,
    threads: int | None,
    say: Callable[[str], object],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The artifacts and the metrics of the manifest; ``running`` begins with the source artifact on the CPU.

    Of two devices the record has the larger differences and the lower accuracy.
    """
    golden = _golden_pixels(draft, manifest)
    compared = test.pixels if test else calibration if calibration is not None else golden
    metrics = [m.model_dump(mode="json") for m in manifest.metrics if m.name != "accuracy" or not test]
    answers: dict[str, list[Answers]] = {}
    for artifact, process in running:
        say(f"measuring {artifact.id} on {len(compared):,} images, {process.info['device']}")
        logits = _logits(process, compared)
        scores = calibrated_softmax(_logits(process, golden), manifest.calibration.temperature)
        answers.setdefault(artifact.id, []).append(Answers(logits, scores))
    say("measuring the speed of each")
    measured = speed.measure([process for _, process in running], compared, threads)
    of_source = answers[manifest.source.id][0]
    records = []
    for artifact in {of.id: of for of, _ in running}.values():
        own = answers[artifact.id]
        record = artifact.model_dump(mode="json")
        record["speeds"] = [
            found for (of, _), found in zip(running, measured, strict=True) if of.id == artifact.id
        ]
        if not artifact.source:
            record["derivation"] = _derivation(artifact, own, of_source, calibration)
        records.append(record)
        if test:
            worst = min((answer.logits for answer in own), key=lambda logits: _right(logits, test))
            runtime = RUNTIME_NAMES[artifact.format]
            metrics.append(accuracy_metric(worst, test.labels, runtime, artifact.precision))
    return records, metrics


def _right(logits: Logits, test: TestImages) -> int:
    return int((logits.argmax(1) == test.labels).sum())


def _derivation(
    artifact: Artifact, own: list[Answers], of_source: Answers, calibration: Pixels | None
) -> dict[str, Any]:
    observed = max(float(np.abs(answer.golden_scores - of_source.golden_scores).max()) for answer in own)
    best = of_source.logits.argmax(1)
    quantised_with = calibration if artifact.precision == "int8" else None
    packages = {"torchscript": ["torch"], "openvino": ["openvino"]}[artifact.format]
    packages += [] if quantised_with is None else ["nncf"]
    return {
        "versions": {package: importlib.metadata.version(package) for package in packages},
        "calibration_samples": 0 if quantised_with is None else len(quantised_with),
        "compared_samples": len(of_source.logits),
        "max_logit_difference": max(float(np.abs(answer.logits - of_source.logits).max()) for answer in own),
        "top1_agreement": min(float((answer.logits.argmax(1) == best).mean()) for answer in own),
        "golden_tolerance": min(LARGEST_TOLERANCE, TOLERANCE_FACTOR * observed + TOLERANCE_ROOM),
    }


def _golden_pixels(directory: Path, manifest: Manifest) -> Pixels:
    files = [directory / sample.file for sample in manifest.golden.samples]
    return np.stack([read_input(file.read_bytes(), manifest.input).pixels for file in files])


def _logits(process: RuntimeProcess, pixels: Pixels) -> Logits:
    return np.concatenate([process.infer(part, TIMEOUT_S) for part in in_batches(pixels)])


def _fields(manifest: Manifest) -> dict[str, Any]:
    """The manifest's fields for a new version: the writer has a number of its own for it."""
    fields = manifest.model_dump(mode="json")
    del fields["version"]
    return fields


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
        last = [line.strip() for line in done.stdout.splitlines() if line.strip()][-1:] or ["nothing"]
        raise AccelerationFailed(
            f"The model can't be converted ({module}, exit status {done.returncode}). Serve the source artifact, or "
            f"report this with the versions of the packages. Received: {last[0][:500]}"
        )
