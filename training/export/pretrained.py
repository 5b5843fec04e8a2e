"""A 1,000-class ImageNet bundle from published weights: no training, and no measured accuracy."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bundle.acceleration.accelerate import Progress
from bundle.acceleration.measure import Acceleration
from bundle.evaluation.golden import drawn_images
from bundle.format.labels import imagenet_labels
from bundle.imaging.decode import read_input
from bundle.machine import processor
from training.backend import Backend
from training.config import TrainConfig
from training.data.load import input_geometry
from training.errors import WeightsError
from training.export.export import ExportOptions, model_record
from training.export.publish import Network, publish
from training.weights.download import download
from training.weights.initial import read_file, read_imagenet
from training.weights.published import USUAL_PIXELS, Interpolation, Published


@dataclass(frozen=True)
class Pretrained:
    """A bundle that has been written, with the figures that the command line prints."""

    path: Path
    published: Published | None  # None: the weights are not those that were published
    note: str | None  # what was assumed of the weights
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
    origin: str | None = None,
    interpolation: Interpolation | None = None,
    progress: Progress = lambda _: None,
) -> Pretrained:
    """Write the next version of a model with published weights.

    Args:
        config: Names the architecture.
        backend: The framework.
        source: A file of weights or the URL of one; None: where the framework publishes them.
        options: Where to, and with what.
        interpolation: Of images; None: as published, else as usual.
        origin: Publisher and licence of the weights, where `source` is a file.
        progress: Is called with what is being done.

    Raises:
        ConfigError: The URL can't be checked.
        WeightsError: The weights can't be read, have another hash, or are for another network.
        TrainingError, StorageError, BundleError: As `export_bundle`.
    """
    golden = drawn_images() if options.golden is None else options.golden
    published: Published | None = backend.weights.published(config.arch)
    if source is None:
        initial = read_imagenet(config, backend.weights, with_classifier=True)
    else:
        path = Path(source)
        if "://" in source:
            path = download(source, cache_folder(), backend.weights.fetch)
        if not backend.weights.is_published(config.arch, path):
            published = None
        initial = read_file(config, path, backend.weights)
    if initial.classifier is None:
        raise WeightsError(
            f"The weights have no classifier. Expected those of all of {config.arch}, for the "
            f"1,000 classes of ImageNet. Received: {initial.record}"
        )
    labels, wordnet_ids = imagenet_labels()
    initial = dataclasses.replace(initial, labels=tuple(labels)).for_labels(labels)
    pixels = published.pixels if published else USUAL_PIXELS
    config = dataclasses.replace(config, image_size=pixels.crop)
    unused = np.ones(3, np.float32)  # the weights have their own normalisation
    trainer = backend.Trainer(config, len(labels), unused, unused, initial)
    if options.half_weights:
        trainer.round_to_half()
    geometry = input_geometry(pixels.crop, pixels.resize, interpolation or pixels.interpolation)
    record = model_record(trainer, backend, config, options.name, labels, geometry)
    record["label_ids"] = wordnet_ids
    record["description"] = (
        f"{config.network} for the 1,000 classes of ImageNet. Weights: "
        f"{origin or (published.source if published else initial.record['file'])}"
    )
    figure = published and {
        "name": "accuracy",
        "value": published.accuracy,
        "source": published.source,
    }
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
            "variant": config.variant,
            "half_weights": options.half_weights,
            "published": figure,
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
        initial.note,
        written.max_logit_difference,
        written.serving,
        written.notes,
    )
