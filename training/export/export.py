"""From a trained network to a bundle: export, measure the artifact, record, publish."""

from __future__ import annotations

import importlib.metadata
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from bundle.acceleration.accelerate import accelerate, republish
from bundle.acceleration.images import CALIBRATION_IMAGES
from bundle.acceleration.measure import TestImages
from bundle.errors import BundleError
from bundle.format.manifest import Input
from bundle.format.writer import BundleWriter
from bundle.imaging.decode import read_input
from bundle.machine import processor
from bundle.scores import calibrated_softmax, top_k
from bundle.worker.selection import DEVICE_NAMES
from training.backend import Backend, TrainerLike
from training.config import TrainConfig
from training.data.dataset import DataSet
from training.data.load import input_geometry
from training.errors import StorageError, TrainingError
from training.export.calibration import calibration_error
from training.export.evaluate import Evaluation, evaluate
from training.export.golden import golden_of
from training.loop import predict
from training.run import Run
from training.weights.initial import FRAMEWORK_NAMES

GOLDEN_TOLERANCE = (
    1e-3  # on scores: above the noise between processors, below any change that matters
)
GOLDEN_TOP = 5
COMPARED_SAMPLES = 500  # images on which framework and artifact are compared
MAX_LOGIT_DIFFERENCE = 1e-3  # in fp32
NOT_ACCELERATED = "the source artifact: no other was made"


@dataclass(frozen=True)
class Acceleration:
    """What faster artifacts are made with and measured on."""

    calibration: NDArray[np.uint8] | None  # [N, H, W, 3], images as in training; None: no int8
    test: TestImages | None
    threads: int  # 0: all


@dataclass(frozen=True)
class Written:
    """A bundle in the repository."""

    path: Path
    max_logit_difference: float
    serving: str  # which artifact a service on a CPU takes, and why
    logits: NDArray[
        np.float32
    ]  # [M, C], what its source artifact answered to `measure` of `publish`


@dataclass(frozen=True)
class Exported:
    """A bundle that has been published, with the figures that the command line prints."""

    path: Path
    accuracy: float
    interval: tuple[float, float]
    calibration_error: tuple[
        float, float | None
    ]  # without and with the temperature; None: none was fitted
    max_logit_difference: float
    serving: str  # which artifact a service on a CPU takes, and why
    by_class: list[tuple[str, int, int]]  # label, test images of it, how many of them are right
    uncalibrated: str | None  # why the scores are not calibrated; None: they are


def export_bundle(
    trainer: TrainerLike,
    backend: Backend,
    config: TrainConfig,
    data: DataSet,
    run: Run,
    *,
    models: Path,
    name: str,
    command: str,
    golden: list[tuple[str, bytes]] | None = None,
    accelerated: bool = True,
) -> Exported:
    """Export `trainer`'s network into the next version of `models`/`name`.

    Args:
        golden: what `read_golden` returned; without it the golden samples are taken from the test split.
        accelerated: with artifacts in other runtimes and precisions too.

    Raises:
        TrainingError: the artifact does not answer as the network did.
        StorageError: the bundle can't be written.
        BundleError: the artifact does not load.
    """
    golden = golden or golden_of(data)
    compared = data.test.pixels[:COMPARED_SAMPLES]

    evaluations: list[Evaluation] = []

    def measure(draft: Path) -> tuple[NDArray[np.float32], dict[str, Any]]:
        found = evaluate(draft, data.validation, data.test)
        evaluations.append(found)
        return found.test_logits, {"metrics": found.metrics, "calibration": found.calibration}

    record = model_record(
        trainer, backend, config, name, data.classes, input_geometry(config.image_size)
    )
    record["description"] = f"{config.arch} trained on {data.name} with {config.framework}"
    record["training"] = _training(trainer, config, data, run, command)
    acceleration = None
    if accelerated:
        chosen = np.random.default_rng(config.seed).permutation(len(data.train))[
            :CALIBRATION_IMAGES
        ]
        acceleration = Acceleration(
            data.train.pixels[chosen],
            TestImages(data.test.pixels, data.test.labels),
            config.threads,
        )
    written, measured = publish(trainer, record, golden, compared, measure, models, acceleration)
    metric, calibration = measured["metrics"][0], measured["calibration"]
    right = data.test.labels[written.logits.argmax(1) == data.test.labels]
    images, right_images = (
        np.bincount(of, minlength=len(data.classes)) for of in (data.test.labels, right)
    )
    return Exported(
        written.path,
        metric["value"],
        tuple(metric["interval_95"]),
        (
            calibration_error(written.logits, data.test.labels, 1.0),
            calibration.get("expected_calibration_error_after"),
        ),
        written.max_logit_difference,
        written.serving,
        list(zip(data.classes, images.tolist(), right_images.tolist(), strict=True)),
        evaluations[0].uncalibrated,
    )


def publish(
    trainer: TrainerLike,
    record: dict[str, Any],
    golden: list[tuple[str, bytes]],
    compared: NDArray[np.uint8],
    measure: Callable[[Path], tuple[NDArray[np.float32], dict[str, Any]]],
    models: Path,
    acceleration: Acceleration | None,
) -> tuple[Written, dict[str, Any]]:
    """Export the network, measure the artifact, write the next version of the model.

    Args:
        record: the manifest without what is measured and what the writer knows, see `model_record`.
        golden: file name and content of the golden samples.
        compared: uint8 [N, H, W, 3], on which the artifact must answer as the network.
        measure: from the folder of a bundle to its artifact's logits [M, C], of which the first are for `compared`,
            and the `metrics` and `calibration` of the manifest, or neither.
        acceleration: what faster artifacts are made with; None: none are made.

    Returns:
        What was written, and what `measure` put into the manifest.

    Raises: as `export_bundle`.
    """
    geometry = Input.model_validate(record["input"])
    golden_pixels = np.stack([read_input(content, geometry).pixels for _, content in golden])
    golden_logits = trainer.predict(golden_pixels)
    expected = predict(trainer, compared)
    try:
        with tempfile.TemporaryDirectory(prefix="export-") as scratch:
            # The metrics in the manifest are measured through the artifact in its runtime, and that loads bundles
            # only: a first bundle, with no metrics and no calibration, is measured; then the real one is written.
            draft = _write(trainer, Path(scratch), record, golden, golden_logits, None)
            logits, measured = measure(draft)
            difference = float(np.abs(logits[: len(compared)] - expected).max())
            if not difference < MAX_LOGIT_DIFFERENCE:
                raise TrainingError(
                    f"The exported artifact does not answer as the network did: logits differ by {difference:.2g}. "
                    f"Expected less than {MAX_LOGIT_DIFFERENCE}."
                )
            exported = {"export": {"max_logit_difference": difference, "samples": len(compared)}}
            record = record | measured | exported
            if acceleration is None:
                path, serving = (
                    _write(trainer, models, record, golden, golden_logits, draft),
                    NOT_ACCELERATED,
                )
            else:
                plain = _write(
                    trainer, Path(scratch) / "plain", record, golden, golden_logits, draft
                )
                path, serving = _accelerate(plain, models, acceleration)
    except OSError as exc:
        raise StorageError(
            f"The bundle can't be written to {models / record['name']}: {exc}."
        ) from exc
    return Written(path, difference, serving, logits), measured


def _accelerate(plain: Path, models: Path, acceleration: Acceleration) -> tuple[Path, str]:
    """The next version with faster artifacts, or as it is where they can't be made; and what is served of it."""
    console = Console(stderr=True)
    try:
        with console.status("accelerating") as status:
            done = accelerate(
                plain,
                models,
                calibration=acceleration.calibration,
                test=acceleration.test,
                threads=acceleration.threads or None,
                say=status.update,
            )
    except (
        BundleError
    ) as exc:  # the network has been trained; what makes it faster is not worth losing it
        return republish(plain, models), f"the source artifact: {exc}"
    for device, chosen in done.chosen.items():
        if device != "cpu":  # that of the CPU is for the caller to say
            console.print(f"On {DEVICE_NAMES[device]} the service takes {chosen}", markup=False)
    for reason in done.left_out:
        console.print(f"Left out: {reason}", markup=False)
    return done.path, done.chosen["cpu"]


def _write(
    trainer: TrainerLike,
    models: Path,
    record: dict[str, Any],
    golden: list[tuple[str, bytes]],
    logits: NDArray[np.float32],
    draft: Path | None,
) -> Path:
    """Write one version; the artifact comes from the network, or from the `draft` that was measured."""
    labels, temperature = record["labels"], record["calibration"]["temperature"]
    with BundleWriter(models, record["name"]) as writer:
        artifact = record["artifacts"][0]["path"]
        if draft is None:
            trainer.export(writer.directory)
        elif (draft / artifact).is_dir():
            shutil.copytree(draft / artifact, writer.directory / artifact)
        else:
            shutil.copyfile(draft / artifact, writer.directory / artifact)
        (writer.directory / "golden").mkdir()
        samples = []
        for (file, content), scores in zip(
            golden, calibrated_softmax(logits, temperature), strict=True
        ):
            (writer.directory / "golden" / file).write_bytes(content)
            top = [
                {"index": answer["index"], "label": answer["label"], "score": answer["score"]}
                for answer in top_k(scores, labels, min(GOLDEN_TOP, len(labels)))
            ]
            samples.append({"file": f"golden/{file}", "top": top})
        return writer.commit(
            record | {"golden": {"tolerance": GOLDEN_TOLERANCE, "samples": samples}}
        )


def model_record(
    trainer: TrainerLike,
    backend: Backend,
    config: TrainConfig,
    name: str,
    labels: list[str],
    geometry: Input,
) -> dict[str, Any]:
    """What the manifest says about the network; `description` and `training` are for the caller to add."""
    return {
        "name": name,
        "task": "image-classification",
        "labels": labels,
        "input": geometry.model_dump(),
        "artifacts": [backend.ARTIFACT],
        "framework": {
            "name": FRAMEWORK_NAMES[config.framework],
            "versions": {
                package: importlib.metadata.version(package) for package in backend.PACKAGES
            },
        },
        "architecture": {
            "name": config.arch,
            "parameters": trainer.parameters,
            "feature_map": dict(
                zip(("height", "width", "channels"), trainer.feature_map, strict=True)
            ),
        },
        "metrics": [],
        "calibration": {"method": "none", "temperature": 1.0},
        "export": {"max_logit_difference": 0.0, "samples": 1},
    }


def _training(
    trainer: TrainerLike, config: TrainConfig, data: DataSet, run: Run, command: str
) -> dict[str, Any]:
    return {
        "command": command,
        "dataset": data.name,
        "train_samples": len(data.train),
        "validation_samples": len(data.validation),
        "test_samples": len(data.test),
        "epochs": len(run.history),
        "seconds": run.seconds,
        "hardware": processor(),
        "seed": config.seed,
        "config": config.as_dict()
        | trainer.normalisation.as_dict()
        | {"initial": trainer.initial, "history": run.history, "kept_epoch": run.kept_epoch},
    }
