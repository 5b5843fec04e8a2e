"""From a file to a bundle: a child makes the artifact, everything is measured, then it is written.

Nothing is written to the model repository before the artifact has passed through the process that
serves it, with the logits that its own framework gives.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from bundle.acceleration.accelerate import accelerate, write_version
from bundle.acceleration.images import calibration_pixels
from bundle.acceleration.measure import TIMEOUT_S, Acceleration, LabelledImages
from bundle.errors import BundleError, ImportFailed
from bundle.evaluation.calibration import NOT_CALIBRATED
from bundle.evaluation.card import Measurement, recorded
from bundle.evaluation.golden import drawn_images, golden_pixels, golden_record
from bundle.evaluation.labelled import Tested, measured
from bundle.format.certainty import NOT_MEASURED
from bundle.format.manifest import Manifest, read_manifest
from bundle.format.repository import file_digest
from bundle.format.rewrite import rewrite
from bundle.format.writer import BundleWriter
from bundle.importing import huggingface
from bundle.importing.child import LOGITS, Findings, Floats, run_child
from bundle.importing.kinds import Source, identify
from bundle.importing.options import NAMED, Options, distinct
from bundle.worker.blocking import RuntimeProcess

MAX_LOGIT_DIFFERENCE = 1e-3  # of the artifact from the framework, in fp32
CHILDREN = {
    "state_dict": "torch_child",
    "safetensors": "torch_child",
    "huggingface": "torch_child",
    "torchscript": "torch_child",
    "pt2": "torch_child",
    "onnx": "onnx_child",
    "keras": "keras_child",
    "keras_h5": "keras_child",
    "savedmodel": "keras_child",
}
Progress = Callable[[str], object]


@dataclass(frozen=True)
class Request:
    """What is imported, and how."""

    path: Path
    models: Path
    name: str
    command: str  # as the manifest records it
    options: Options
    labels: tuple[list[str], list[str] | None] | None = None  # and their ids
    test: Path | None = None
    accelerate: bool = False
    calibration: Path | None = None


@dataclass(frozen=True)
class Imported:
    """A bundle that was written, and what there is to say about it."""

    path: Path
    manifest: Manifest
    notes: list[str] = field(default_factory=list)
    tested: Tested | None = None


def import_model(request: Request, progress: Progress = lambda _: None) -> Imported:
    """Import a model as the next version of `request.name`.

    Raises:
        ImportFailed: The file is no image classifier, or an option is missing or wrong.
        BundleError: The artifact does not run here, or the images can't be read.
        OSError: The bundle can't be written.
    """
    with tempfile.TemporaryDirectory(prefix="import-") as folder:
        scratch = Path(folder)
        progress("looking at the file")
        source = identify(request.path, scratch)
        options = request.options
        if source.config is not None:
            options = huggingface.completed(source, options)
        progress(f"opening the {source.kind} in its framework")
        draft, findings = draft_of(request, source, options, scratch / "draft")
        manifest = read_manifest(draft)
        tested = None
        with RuntimeProcess(draft) as process:
            progress("loading the artifact as the service does")
            process.start(TIMEOUT_S)
            expected = np.load(scratch / "draft" / LOGITS)
            pixels = golden_pixels(drawn_images(), manifest.input)
            difference = _checked_difference(process.infer(pixels, TIMEOUT_S), expected)
            if request.test:
                tested = measured(process, request.test, manifest, progress)
        if tested and tested.doubtful and findings.changeable:

            def variant(normalise: str) -> Path:
                changed = replace(options, normalise=normalise)
                progress(f"trying --normalise {normalise}")
                return draft_of(request, source, changed, Path(tempfile.mkdtemp(dir=scratch)))[0]

            tested.try_others(variant, [each for each in NAMED if each != findings.normalisation])
        files: dict[str, bytes] = {}
        figures: dict[str, Any] = {
            "export": {"max_logit_difference": difference, "samples": len(expected)}
        }
        if tested:
            temperature = tested.calibration["temperature"]
            figures["metrics"] = tested.metrics
            figures["calibration"] = tested.calibration
            figures["baseline"] = tested.baseline
            figures["golden"] = golden_record(
                drawn_images(), expected, manifest.labels, temperature
            )
            found = Measurement(manifest.source.id, tested.logits, tested.labels)
            changes, card = recorded(manifest, temperature, found)
            figures |= changes
            files[changes["card"]] = card
        record = rewrite(draft, manifest, figures, files)
        path, notes = _written(request, draft, record, tested, scratch, progress)
        return Imported(path, read_manifest(path), [*findings.notes, *notes], tested)


def draft_of(
    request: Request, source: Source, options: Options, folder: Path
) -> tuple[Path, Findings]:
    """Let a child make the artifact, and write it as a bundle without figures below `folder`.

    Raises:
        ImportFailed: As `import_model`.
    """
    made = folder / "made"
    made.mkdir(parents=True)
    findings = run_child(CHILDREN[source.kind], source.kind, source.path, options, made)
    if source.config is not None:
        findings.assumed += huggingface.assumed(source)
    labels, ids = _labels(request, source, findings)
    logits = np.load(made / LOGITS)
    (made / LOGITS).rename(folder / LOGITS)
    golden = drawn_images()
    (made / "golden").mkdir()
    for file, content in golden:
        (made / "golden" / file).write_bytes(content)
    record = _record(request, source, findings) | {
        "labels": labels,
        "label_ids": ids,
        "golden": golden_record(golden, logits, labels, 1.0),
    }
    with BundleWriter(folder / "models", request.name, durable=False) as writer:
        for each in made.iterdir():
            each.rename(writer.directory / each.name)
        return writer.commit(record), findings


def _labels(
    request: Request, source: Source, findings: Findings
) -> tuple[list[str], list[str] | None]:
    """The labels of the option, else of the file, as many as the model has classes.

    Raises:
        ImportFailed: There are none, or another number of them.
    """
    given = request.labels or _labels_of_file(source, findings)
    count = findings.classes
    if given is None:
        hint = ", here imagenet" if count == 1000 else ""
        raise ImportFailed(
            f"The model has {count:,} classes, and the file does not name them. Expected --labels "
            f"FILE (one label a line, in the order of the outputs), a,b,c or imagenet{hint}. "
            "Received: no --labels"
        )
    if len(given[0]) != count:
        where = "--labels has" if request.labels else "the file names"
        raise ImportFailed(
            f"The model has {count:,} classes and {where} {len(given[0]):,} labels. Expected one "
            "for each class, in the order of the outputs. "
            f"Received: {', '.join(given[0][:5])}{', ...' if len(given[0]) > 5 else ''}"
        )
    return given


def _labels_of_file(source: Source, findings: Findings) -> tuple[list[str], None] | None:
    if source.config is not None:
        return huggingface.labels(source.config), None
    if source.names is not None:
        return huggingface.by_index(source.names), None
    return (distinct(findings.labels), None) if findings.labels else None


def _record(request: Request, source: Source, findings: Findings) -> dict[str, Any]:
    """The manifest without labels, figures and golden samples."""
    path = request.path
    digest = None if path.is_dir() else file_digest(path.resolve())[1]
    return {
        "description": f"{findings.architecture or 'Classifier'} imported from {path.name}",
        "task": "image-classification",
        "input": findings.input,
        "artifacts": [findings.artifact],
        "framework": findings.framework,
        "architecture": {"name": findings.architecture, "parameters": findings.parameters},
        "heatmap": findings.heatmap,
        "training": None,
        "imported": {
            "command": request.command,
            "file": path.name,
            "sha256": digest,
            "kind": source.kind,
            "normalisation": findings.normalisation,
            "outputs": findings.outputs,
            "assumed": findings.assumed,
        },
        "metrics": [],
        "calibration": NOT_CALIBRATED,
        "baseline": None,
        **NOT_MEASURED,
        "export": {"max_logit_difference": 0.0, "samples": 1},
    }


def _checked_difference(found: Floats, expected: Floats) -> float:
    """The largest difference of the served logits from the framework's.

    Logarithms of tiny probabilities differ without a difference of scores, and count less.

    Raises:
        ImportFailed: It is too large.
    """
    scale = np.maximum(1.0, np.abs(expected))
    difference = float((np.abs(found - expected) / scale).max())
    if not difference < MAX_LOGIT_DIFFERENCE:
        raise ImportFailed(
            "The served logits are not those of the model in its own framework: they differ by "
            f"{difference:.2g}. Expected less than {MAX_LOGIT_DIFFERENCE}. Import another format "
            "of the model, for example ONNX."
        )
    return float(np.abs(found - expected).max())


def _written(
    request: Request,
    draft: Path,
    record: Manifest,
    tested: Tested | None,
    scratch: Path,
    progress: Progress,
) -> tuple[Path, list[str]]:
    """Write the bundle, with faster artifacts if they are wanted and can be made."""
    if not request.accelerate:
        return write_version(draft, record, record, request.models), []
    # Accelerated artifacts are made of a bundle, so this one is finished in the scratch folder.
    final = write_version(draft, record, record, scratch / "finished")
    images = calibration_pixels(request.calibration, record.input) if request.calibration else None
    labelled = LabelledImages(tested.pixels, tested.labels) if tested else None
    try:
        done = accelerate(final, request.models, Acceleration(images, labelled), progress=progress)
    except BundleError as exc:
        return write_version(draft, record, record, request.models), [f"not accelerated: {exc}"]
    return done.path, [
        *(f"left out: {reason}" for reason in done.left_out),
        *(f"on {device} the service takes {chosen}" for device, chosen in done.chosen.items()),
    ]
