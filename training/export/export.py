"""The bundle of a trained network: its record, and the images that it is measured on."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bundle.acceleration.accelerate import Progress
from bundle.acceleration.images import CALIBRATION_IMAGES
from bundle.acceleration.measure import Acceleration, LabelledImages
from bundle.evaluation.calibration import NOT_CALIBRATED, calibration_error
from bundle.format.certainty import NOT_MEASURED
from bundle.format.manifest import Input
from bundle.machine import processor
from training.backend import Backend, TrainerLike
from training.config import TrainConfig
from training.data.dataset import DataSet
from training.data.load import input_geometry
from training.export.golden import golden_of
from training.export.publish import Network, publish
from training.frameworks import FRAMEWORKS
from training.run import Run

COMPARED_SAMPLES = 500  # images on which framework and artifact are compared


@dataclass(frozen=True)
class ExportOptions:
    """Where a network is exported to, and with what."""

    models: Path  # the model repository
    name: str  # of the model
    command: str  # as the manifest records it
    # File name and content of the golden images; None: chosen from the test split, or drawn.
    golden: list[tuple[str, bytes]] | None = None
    accelerated: bool = True  # with artifacts in other runtimes and precisions too
    half_weights: bool = False  # rounded to fp16, and stored so; the artifact computes in fp32


@dataclass(frozen=True)
class Exported:
    """A bundle that has been published, with the figures that the command line prints."""

    path: Path
    accuracy: float
    interval: tuple[float, float]
    # Without and with the temperature; None: none was fitted.
    calibration_error: tuple[float, float | None]
    max_logit_difference: float
    serving: str  # which artifact a service on a CPU takes, and why
    notes: list[str]  # see `training.export.publish.Written`
    by_class: list[tuple[str, int, int]]  # label, its test images, how many of them are correct
    uncalibrated: str | None  # why the scores are not calibrated; None: they are


def export_bundle(
    trainer: TrainerLike,
    backend: Backend,
    config: TrainConfig,
    data: DataSet,
    run: Run,
    options: ExportOptions,
    *,
    progress: Progress = lambda _: None,
) -> Exported:
    """Export the network of `trainer` as the next version of its model.

    Args:
        trainer: Holds the trained network.
        backend: The framework.
        config, data, run: How the network was trained.
        options: Where to, and with what.
        progress: Is called with what is being done.

    Raises:
        TrainingError: The logits of the artifact are not those of the network.
        StorageError: The bundle can't be written.
        BundleError: The artifact does not load.
    """
    geometry = input_geometry(config.image_size)
    record = model_record(trainer, backend, config, options.name, data.classes, geometry)
    record["description"] = f"{config.arch} trained on {data.name} with {config.framework}"
    record["training"] = _training(trainer, config, data, run, options.command)
    acceleration = None
    if options.accelerated:
        order = np.random.default_rng(config.seed).permutation(len(data.train))
        acceleration = Acceleration(
            data.train.pixels[order[:CALIBRATION_IMAGES]],
            LabelledImages(data.test.pixels, data.test.labels),
            threads=config.threads or None,
        )
    network = Network(
        trainer,
        record,
        options.golden or golden_of(data),
        data.test.pixels[:COMPARED_SAMPLES],
        (data.validation, data.test),
    )
    written = publish(network, options.models, acceleration, progress=progress)
    found = written.evaluation
    correct = data.test.labels[found.logits.argmax(1) == data.test.labels]
    images, correct_images = (
        np.bincount(of, minlength=len(data.classes)) for of in (data.test.labels, correct)
    )
    low, high = found.metrics[0]["interval_95"]
    return Exported(
        written.path,
        found.metrics[0]["value"],
        (low, high),
        (
            calibration_error(found.logits, data.test.labels, 1.0),
            found.calibration.get("expected_calibration_error_after"),
        ),
        written.max_logit_difference,
        written.serving,
        written.notes,
        list(zip(data.classes, images.tolist(), correct_images.tolist(), strict=True)),
        found.uncalibrated,
    )


def model_record(
    trainer: TrainerLike,
    backend: Backend,
    config: TrainConfig,
    name: str,
    labels: list[str],
    geometry: Input,
) -> dict[str, Any]:
    """The manifest of a network, without what is measured, `description` and `training`."""
    return {
        "name": name,
        "task": "image-classification",
        "labels": labels,
        "label_ids": None,
        "input": geometry.model_dump(),
        "artifacts": [backend.ARTIFACT],
        "framework": {
            "name": FRAMEWORKS[config.framework].manifest_name,
            "versions": {
                package: importlib.metadata.version(package) for package in backend.PACKAGES
            },
        },
        "architecture": {"name": config.network, "parameters": trainer.parameters},
        "heatmap": {"method": "class_activation"}
        | dict(zip(("height", "width", "channels"), trainer.feature_map, strict=True)),
        "imported": None,
        "metrics": [],
        "calibration": NOT_CALIBRATED,
        "baseline": None,
        **NOT_MEASURED,
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
