"""Publish a network: export it, measure its artifacts, write the next version of its model.

Two bundles are written: a draft in a scratch folder, through which everything is measured, and the
new version.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.acceleration.accelerate import Progress, Writer, add_artifacts, finish, write_version
from bundle.acceleration.measure import TIMEOUT_S, Acceleration, Running
from bundle.errors import AccelerationFailed, BundleError
from bundle.evaluation.calibration import NOT_CALIBRATED
from bundle.evaluation.card import Measurement, recorded
from bundle.evaluation.evaluate import Evaluation, artifact_logits, evaluate
from bundle.evaluation.golden import golden_pixels, golden_record
from bundle.format.manifest import Artifact, Input, Manifest, read_manifest
from bundle.format.rewrite import rewrite
from bundle.format.writer import BundleWriter
from bundle.worker.blocking import RuntimeProcess
from bundle.worker.selection import DEVICE_NAMES
from training.backend import TrainerLike
from training.data.dataset import Split
from training.errors import StorageError, TrainingError
from training.loop import predict

MAX_LOGIT_DIFFERENCE = 1e-3  # in fp32
NOT_ACCELERATED = "the source artifact: no other was made"


@dataclass(frozen=True)
class Network:
    """A network, its record, and the images that it is measured on."""

    trainer: TrainerLike
    # The manifest without what is measured and what the writer fills in, see `model_record`.
    record: dict[str, Any]
    golden: list[tuple[str, bytes]]  # file name and content
    # uint8 [N, H, W, 3], on which the artifact's logits must be the network's; the first images of
    # the test split if there is one.
    compared: NDArray[np.uint8]
    splits: tuple[Split, Split] | None  # validation and test; None: nothing is measured


@dataclass(frozen=True)
class Written:
    """A bundle in the repository."""

    path: Path
    max_logit_difference: float
    serving: str  # which artifact a service on a CPU takes, and why
    notes: list[str]  # for the user: what other devices take, and what was left out
    evaluation: Evaluation  # of the source artifact


def publish(
    network: Network,
    models: Path,
    acceleration: Acceleration | None,
    *,
    progress: Progress = lambda _: None,
    writer: Writer = BundleWriter,
) -> Written:
    """Export a network, measure its artifacts, and write the next version of its model.

    Faster artifacts that can't be made or measured do not lose the trained network: it is then
    published without them, and `serving` has the reason.

    Args:
        network: What is exported.
        models: The model repository.
        acceleration: What faster artifacts are made with; None: none are made.
        progress: Is called with what is being done.
        writer: Makes the writers of the draft and of the new version.

    Raises:
        TrainingError: The logits of the artifact are not those of the network.
        StorageError: The bundle can't be written.
        BundleError: The source artifact does not load.
    """
    expected = predict(network.trainer, network.compared)
    try:
        with tempfile.TemporaryDirectory(prefix="export-") as scratch:
            draft, serving = _draft(network, Path(scratch), acceleration, progress, writer)
            made = read_manifest(draft)
            threads = acceleration.threads if acceleration else None
            with RuntimeProcess(draft, threads=threads) as process:
                process.start(TIMEOUT_S)
                found = _evaluate(process, network, progress)
                difference = _checked_difference(found, expected)
                made = _with_figures(draft, made, network, found, difference)
                if acceleration and not serving:
                    logits = found.logits if acceleration.test else None
                    source = Running(made.source, process, logits)
                    try:
                        done = finish(
                            draft,
                            made,
                            models,
                            acceleration,
                            source=source,
                            progress=progress,
                            writer=writer,
                        )
                    except BundleError as exc:
                        serving = f"the source artifact: {exc}"
                    else:
                        notes = [
                            f"On {DEVICE_NAMES[device]} the service takes {chosen}"
                            for device, chosen in done.chosen.items()
                            if device != "cpu"
                        ]
                        notes += [f"Left out: {reason}" for reason in done.left_out]
                        return Written(done.path, difference, done.chosen["cpu"], notes, found)
            plain = made.model_dump(mode="json")
            plain["artifacts"] = [made.source.model_dump(mode="json")]
            path = write_version(draft, made, plain, models, writer, with_derived=False)
            return Written(path, difference, serving or NOT_ACCELERATED, [], found)
    except OSError as exc:
        raise StorageError(
            f"The bundle can't be written to {models / network.record['name']}: {exc}."
        ) from exc


def _draft(
    network: Network,
    scratch: Path,
    acceleration: Acceleration | None,
    progress: Progress,
    writer: Writer,
) -> tuple[Path, str]:
    """Write a bundle with no figures in `scratch`; also why making faster artifacts failed."""
    record, failure = network.record, ""
    source = Artifact.model_validate(record["artifacts"][0])
    geometry = Input.model_validate(record["input"])
    with writer(scratch, record["name"], durable=False) as target:
        network.trainer.export(target.directory)
        (target.directory / "golden").mkdir()
        for file, content in network.golden:
            (target.directory / "golden" / file).write_bytes(content)
        artifacts = record["artifacts"]
        if acceleration:
            try:
                artifacts = add_artifacts(
                    target.directory, source, geometry, acceleration, progress
                )
            except AccelerationFailed as exc:
                failure = f"the source artifact: {exc}"
        golden = _golden(network, record["calibration"]["temperature"])
        return target.commit(record | {"artifacts": artifacts, "golden": golden}), failure


def _evaluate(process: RuntimeProcess, network: Network, progress: Progress) -> Evaluation:
    if network.splits is None:
        logits = artifact_logits(
            process, network.compared, "comparing the artifact with the network", progress
        )
        return Evaluation(logits, [], NOT_CALIBRATED, None)
    return evaluate(process, *network.splits, network.record["labels"], progress)


def _checked_difference(found: Evaluation, expected: NDArray[np.float32]) -> float:
    """The largest difference of the artifact's logits from the network's, `expected` [N, C].

    Raises:
        TrainingError: It is too large.
    """
    difference = float(np.abs(found.logits[: len(expected)] - expected).max())
    if not difference < MAX_LOGIT_DIFFERENCE:
        raise TrainingError(
            "The logits of the exported artifact are not those of the network: they differ by "
            f"{difference:.2g}. Expected less than {MAX_LOGIT_DIFFERENCE}."
        )
    return difference


def _with_figures(
    draft: Path, made: Manifest, network: Network, found: Evaluation, difference: float
) -> Manifest:
    """Give a draft its evaluation and card, and golden scores at the fitted temperature."""
    temperature = found.calibration["temperature"]
    files = {}
    figures = {
        "metrics": found.metrics,
        "calibration": found.calibration,
        "baseline": found.baseline,
        "export": {"max_logit_difference": difference, "samples": len(network.compared)},
        "golden": _golden(network, temperature),
    }
    if network.splits is not None:
        labels = network.splits[1].labels
        changes, card = recorded(
            made, temperature, Measurement(made.source.id, found.logits, labels)
        )
        figures |= changes
        files[changes["card"]] = card
    return rewrite(draft, made, figures, files)


def _golden(network: Network, temperature: float) -> dict[str, Any]:
    """The golden samples of the manifest: the network's best scores of each golden image."""
    pixels = golden_pixels(network.golden, Input.model_validate(network.record["input"]))
    logits = network.trainer.predict(pixels)
    return golden_record(network.golden, logits, network.record["labels"], temperature)
