"""Where the weights of a new network come from: random numbers, ImageNet, a file of weights, or a bundle."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bundle.format.manifest import Manifest, read_manifest
from bundle.format.repository import file_digest, verify_files
from training.config import TrainConfig
from training.errors import ConfigError
from training.weights.download import silence_limit
from training.weights.normalisation import Normalisation
from training.weights.published import Published

FRAMEWORK_NAMES = {"torch": "pytorch", "keras": "tensorflow"}  # in a manifest


@dataclass(frozen=True)
class Initial:
    """Weights that a network starts from. The default is a random start.

    `backbone` and `classifier` are in the form of the framework, see `training/torch/weights.py` and its twin;
    None means random.
    """

    backbone: Any = None
    classifier: Any = None
    labels: tuple[str, ...] | None = None  # what the classifier tells apart; None: nobody knows
    normalisation: Normalisation | None = (
        None  # what the weights are used to; None: that of the training data
    )
    record: dict[str, Any] = field(default_factory=lambda: {"from": "random"})  # as in the manifest

    def for_labels(self, labels: Sequence[str]) -> Initial:
        """These weights for a network with `labels`: the classifier stays only if it tells the same ones apart."""
        if self.backbone is None:
            return self
        taken = self.classifier is not None and self.labels == tuple(labels)
        return dataclasses.replace(
            self,
            classifier=self.classifier if taken else None,
            record=self.record | {"classifier": "taken over" if taken else "random"},
        )


class WeightsLike(Protocol):
    """Reads weights of a framework: `training/torch/weights.py` and `training/keras/weights.py`."""

    def published(self, arch: str) -> Published: ...
    def is_published(self, arch: str, path: Path) -> bool: ...
    def imagenet(self, config: TrainConfig, with_classifier: bool) -> Initial: ...
    def from_file(self, config: TrainConfig, path: Path) -> Initial: ...
    def from_bundle(self, config: TrainConfig, directory: Path, manifest: Manifest) -> Initial: ...


def initial_path(init: str) -> Path | None:
    """The file or folder that an `init` names; None for random and imagenet.

    Raises:
        ConfigError: there is no such file or folder.
    """
    if init in ("random", "imagenet"):
        return None
    path = Path(init)
    if not path.exists():
        raise ConfigError(
            "--init is random, imagenet, a file of weights or the folder of a bundle (models/NAME/VERSION). "
            f"There is no such file or folder. Received: {init!r}"
        )
    return path


def read_initial(config: TrainConfig, weights: WeightsLike) -> Initial:
    """What `config.init` names: random, imagenet, a file, or the folder of a bundle.

    Raises:
        ConfigError: there is no such file or folder, or the bundle holds another network.
        WeightsError: the weights can't be downloaded or read, or are those of another network.
        BundleError: the bundle is not in order.
    """
    path = initial_path(config.init)
    if path is None:
        return Initial() if config.init == "random" else read_imagenet(config, weights)
    return (
        _read_bundle(config, path, weights) if path.is_dir() else read_file(config, path, weights)
    )


def read_imagenet(
    config: TrainConfig, weights: WeightsLike, *, with_classifier: bool = False
) -> Initial:
    """The published weights for ImageNet, from the cache of the framework or from the internet.

    Raises:
        WeightsError: they can't be had, be it because nobody answers, or what came has another hash.
    """
    with silence_limit():
        return weights.imagenet(config, with_classifier)


def read_file(config: TrainConfig, path: Path, weights: WeightsLike) -> Initial:
    """The weights in the file `path`, which the record names with its sha256.

    Raises:
        WeightsError: it can't be read, or holds another network.
    """
    initial = weights.from_file(config, path)
    digest = file_digest(path.resolve())[1]
    return dataclasses.replace(
        initial, record={"from": "file", "file": path.name, "sha256": digest}
    )


def _read_bundle(config: TrainConfig, directory: Path, weights: WeightsLike) -> Initial:
    manifest = read_manifest(directory)
    found = (manifest.framework.name, manifest.architecture.name)
    expected = (FRAMEWORK_NAMES[config.framework], config.arch)
    if found != expected:
        raise ConfigError(
            f"A network starts from a bundle of its own framework and architecture: {' '.join(expected)}. "
            f"Received: {directory} with {' '.join(found)}"
        )
    verify_files(directory, manifest)
    initial = weights.from_bundle(config, directory, manifest)
    record = {"from": "bundle", "name": manifest.name, "version": manifest.version}
    record["sha256"] = file_digest(directory / "manifest.json")[1]
    return dataclasses.replace(initial, labels=tuple(manifest.labels), record=record)
