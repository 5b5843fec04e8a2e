"""A 1,000-class ImageNet bundle from published weights: nothing is trained, and nothing is measured."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bundle.imaging.decode import read_input
from bundle.machine import processor
from training.backend import Backend
from training.config import TrainConfig
from training.data.load import input_geometry
from training.errors import WeightsError
from training.export.evaluate import artifact_logits
from training.export.export import Acceleration, model_record, publish
from training.export.golden import drawn_pictures, read_golden
from training.weights.download import download
from training.weights.initial import read_file, read_imagenet
from training.weights.published import Published


@dataclass(frozen=True)
class Pretrained:
    """A bundle that has been written, with what the command line prints."""

    path: Path
    published: Published
    genuine: bool  # whether the weights are those that were published
    max_logit_difference: float
    serving: str  # which artifact a service on a CPU takes, and why


def cache_folder() -> Path:
    """Where downloads are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "resnet-service"


def write_pretrained(
    config: TrainConfig,
    backend: Backend,
    *,
    source: str | None,
    models: Path,
    name: str,
    command: str,
    golden_folder: Path | None = None,
    accelerated: bool = True,
) -> Pretrained:
    """Write the next version of `models`/`name`.

    Args:
        source: a file of weights or a URL of one; None: where the framework publishes them.
        golden_folder: pictures for the golden samples; without it they are drawn.
        accelerated: with artifacts in other runtimes and precisions too.

    Raises:
        ConfigError: the URL can't be checked.
        WeightsError: the weights can't be had, have another hash, or are those of another network.
        TrainingError, StorageError, BundleError: as `export_bundle`.
    """
    golden = drawn_pictures() if golden_folder is None else read_golden(golden_folder)
    published = backend.weights.published(config.arch)
    config = dataclasses.replace(config, image_size=published.crop)
    genuine = True
    if source is None:
        initial = read_imagenet(config, backend.weights, with_classifier=True)
    else:
        path = download(source, cache_folder()) if "://" in source else Path(source)
        genuine = backend.weights.is_published(config.arch, path)
        initial = read_file(config, path, backend.weights)
    if initial.classifier is None:
        raise WeightsError(
            f"The weights have no classifier. Expected those of all of {config.arch}, for the 1,000 classes of ImageNet. "
            f"Received: {initial.record}"
        )
    initial = dataclasses.replace(initial, labels=published.labels).for_labels(published.labels)
    unused = np.ones(3, np.float32)  # the weights bring their own normalisation
    trainer = backend.Trainer(config, len(published.labels), unused, unused, initial)
    geometry = input_geometry(published.crop, published.resize, published.interpolation)
    record = model_record(trainer, backend, config, name, list(published.labels), geometry)
    record["description"] = (
        f"{config.arch} for the 1,000 classes of ImageNet, published weights in {config.framework}"
    )
    figure = {"name": "accuracy", "value": published.accuracy, "source": published.source}
    record["training"] = {
        "command": command,
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
            # Only of the very weights that it was measured on; nobody has measured others.
            "published": figure if genuine else None,
            **trainer.normalisation.as_dict(),
        },
    }
    compared = np.stack([read_input(content, geometry).pixels for _, content in golden])
    written, _ = publish(
        trainer,
        record,
        golden,
        compared,
        lambda draft: (artifact_logits(draft, compared), {}),
        models,
        # There are no images to calibrate int8 with, and none to measure accuracy on.
        Acceleration(None, None, config.threads) if accelerated else None,
    )
    return Pretrained(
        written.path, published, genuine, written.max_logit_difference, written.serving
    )
