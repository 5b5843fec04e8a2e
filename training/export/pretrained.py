"""A 1,000-class ImageNet bundle from published weights: no training, and no measured accuracy."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bundle.acceleration.accelerate import Progress
from bundle.acceleration.measure import Acceleration
from bundle.imaging.decode import read_input
from bundle.machine import processor
from training.backend import Backend
from training.config import TrainConfig
from training.data.load import input_geometry
from training.errors import WeightsError
from training.export.export import ExportOptions, model_record
from training.export.golden import drawn_images
from training.export.publish import Network, publish
from training.weights.download import download
from training.weights.initial import read_file, read_imagenet
from training.weights.published import Published


@dataclass(frozen=True)
class Pretrained:
    """A bundle that has been written, with the figures that the command line prints."""

    path: Path
    published: Published
    genuine: bool  # whether the weights are those that were published
    max_logit_difference: float
    serving: str  # which artifact a service on a CPU takes, and why
    notes: list[str]  # see `training.export.publish.Written`


def cache_folder() -> Path:
    """Where downloads are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "resnet-service"


def write_pretrained(
    config: TrainConfig,
    backend: Backend,
    source: str | None,
    options: ExportOptions,
    *,
    progress: Progress = lambda _: None,
) -> Pretrained:
    """Write the next version of a model with published weights.

    Args:
        config: Names the architecture.
        backend: The framework.
        source: A file of weights or the URL of one; None: where the framework publishes them.
        options: Where to, and with what.
        progress: Is called with what is being done.

    Raises:
        ConfigError: The URL can't be checked.
        WeightsError: The weights can't be read, have another hash, or are for another network.
        TrainingError, StorageError, BundleError: As `export_bundle`.
    """
    golden = drawn_images() if options.golden is None else options.golden
    published = backend.weights.published(config.arch)
    config = dataclasses.replace(config, image_size=published.crop)
    genuine = True
    if source is None:
        initial = read_imagenet(config, backend.weights, with_classifier=True)
    else:
        path = Path(source)
        if "://" in source:
            path = download(source, cache_folder(), backend.weights.fetch)
        genuine = backend.weights.is_published(config.arch, path)
        initial = read_file(config, path, backend.weights)
    if initial.classifier is None:
        raise WeightsError(
            f"The weights have no classifier. Expected those of all of {config.arch}, for the "
            f"1,000 classes of ImageNet. Received: {initial.record}"
        )
    initial = dataclasses.replace(initial, labels=published.labels).for_labels(published.labels)
    unused = np.ones(3, np.float32)  # the weights have their own normalisation
    trainer = backend.Trainer(config, len(published.labels), unused, unused, initial)
    geometry = input_geometry(published.crop, published.resize, published.interpolation)
    record = model_record(trainer, backend, config, options.name, list(published.labels), geometry)
    record["description"] = (
        f"{config.arch} for the 1,000 classes of ImageNet, published weights in {config.framework}"
    )
    figure = {"name": "accuracy", "value": published.accuracy, "source": published.source}
    record["training"] = {
        "command": options.command,
        "dataset": "ImageNet (ILSVRC 2012), by the publisher of the weights",
        "train_samples": 0,
        "validation_samples": 0,
        "test_samples": 0,
        "epochs": 0,
        "seconds": 0.0,
        "hardware": processor(),
        "seed": config.seed,
        "config": {
            "framework": config.framework,
            "arch": config.arch,
            "initial": trainer.initial,
            # The figure is of the published weights only.
            "published": figure if genuine else None,
            **trainer.normalisation.as_dict(),
        },
    }
    compared = np.stack([read_input(content, geometry).pixels for _, content in golden])
    # There are no images to calibrate int8 with, and none to measure the accuracy on.
    acceleration = Acceleration(threads=config.threads or None) if options.accelerated else None
    network = Network(trainer, record, golden, compared, splits=None)
    written = publish(network, options.models, acceleration, progress=progress)
    return Pretrained(
        written.path,
        published,
        genuine,
        written.max_logit_difference,
        written.serving,
        written.notes,
    )
