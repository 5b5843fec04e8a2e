"""Where a new network's weights come from: random, ImageNet, a weights file, or a bundle."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bundle.format.manifest import Manifest, read_manifest
from bundle.format.repository import file_digest, verify_files
from bundle.normalisation import Normalisation
from training.config import VARIANTS, TrainConfig
from training.errors import ConfigError, WeightsError
from training.frameworks import FRAMEWORKS
from training.weights.download import read_timeout
from training.weights.published import Published


@dataclass(frozen=True)
class Initial:
    """Initial weights of a network; by default random.

    Attributes:
        backbone: in the form of the framework, see `training/torch/weights.py` and its twin; None:
            random.
        classifier: in the same form; None: random.
        labels: the classes of the classifier; None: unknown.
        normalisation: the one that the weights were trained with; None: that of the training data.
        record: the source of the weights, as in the manifest.
        note: what was assumed of them, for the user.
    """

    backbone: Any = None
    classifier: Any = None
    labels: tuple[str, ...] | None = None
    normalisation: Normalisation | None = None
    record: dict[str, Any] = field(default_factory=lambda: {"from": "random"})
    note: str | None = None

    def for_labels(self, labels: Sequence[str]) -> Initial:
        """The weights for a network with `labels`; a classifier of other labels is dropped."""
        if self.backbone is None:
            return self
        kept = self._has_classifier_of(labels)
        return dataclasses.replace(
            self,
            classifier=self.classifier if kept else None,
            record=self.record | {"classifier": "taken over" if kept else "random"},
        )

    def dropped_classifier(self, source: str, labels: Sequence[str]) -> str | None:
        """Why `for_labels` drops the classifier that `source` has; None if it drops none."""
        if self.classifier is None or self._has_classifier_of(labels):
            return None
        found, why = "", "a file of weights does not name its classes"
        if self.labels is not None:
            found = f" ({len(self.labels)} classes)"
            why = f"its labels, or their order, differ: {', '.join(self.labels[:3])}, ..."
        return (
            f"the classifier of {source}{found} is not used, only the backbone: {why}. To keep it, "
            "start from a bundle and train on the same labels in the same order."
        )

    def _has_classifier_of(self, labels: Sequence[str]) -> bool:
        return self.classifier is not None and self.labels == tuple(labels)


class WeightsLike(Protocol):
    """Reads weights of a framework: `training/torch/weights.py` and `training/keras/weights.py`."""

    def published(self, arch: str) -> Published: ...
    def is_published(self, arch: str, path: Path) -> bool: ...
    def fetch(self, url: str, path: Path) -> None: ...
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
            "--init is random, imagenet, a file of weights or the folder of a bundle "
            f"(models/NAME/VERSION). There is no such file or folder. Received: {init!r}"
        )
    return path


def read_initial(config: TrainConfig, weights: WeightsLike) -> Initial:
    """The weights that `config.init` names: random, imagenet, a file, or the folder of a bundle.

    Raises:
        ConfigError: there is no such file or folder, or the bundle has another network.
        WeightsError: the weights can't be downloaded or read, or are those of another network.
        BundleError: the bundle is invalid or damaged.
    """
    path = initial_path(config.init)
    if path is None:
        return Initial() if config.init == "random" else read_imagenet(config, weights)
    if path.is_dir():
        return _read_bundle(config, path, weights)
    return read_file(config, path, weights)


def read_imagenet(
    config: TrainConfig, weights: WeightsLike, *, with_classifier: bool = False
) -> Initial:
    """The published ImageNet weights, from the framework's cache or from the internet.

    Raises:
        WeightsError: they can't be downloaded, or the file has another hash.
    """
    with read_timeout():
        return weights.imagenet(config, with_classifier)


def read_file(config: TrainConfig, path: Path, weights: WeightsLike) -> Initial:
    """The weights in the file `path`, recorded with its sha256.

    Raises:
        WeightsError: it can't be read, or has the weights of another network.
    """
    initial = weights.from_file(config, path)
    digest = file_digest(path.resolve())[1]
    record = {"from": "file", "file": path.name, "sha256": digest}
    return dataclasses.replace(initial, record=record, note=_variant_note(config, path, weights))


def _variant_note(config: TrainConfig, path: Path, weights: WeightsLike) -> str | None:
    """A sentence where the file does not show which variant of the network its weights are of.

    Raises:
        WeightsError: they are known to be of the other one.
    """
    variants = VARIANTS[config.framework]
    if not config.variant or len(variants) == 1:
        return None
    if not weights.is_published(config.arch, path):
        others = " or ".join(each for each in variants if each != config.variant)
        return (
            f"the weights in {path.name} are taken for those of {config.network}; the file looks "
            f"the same for {others}, which needs --variant {others} and would be silently wrong "
            "without it."
        )
    if config.variant != variants[0]:
        raise WeightsError(
            f"The file has torchvision's weights of {config.arch}-{variants[0]}, and the network "
            f"is {config.network}. Expected --variant {variants[0]}. Received: {str(path)!r}"
        )
    return None


def _read_bundle(config: TrainConfig, directory: Path, weights: WeightsLike) -> Initial:
    manifest = read_manifest(directory)
    found = [manifest.framework.name, str(manifest.architecture.name)]
    expected = [FRAMEWORKS[config.framework].manifest_name, config.network]
    accepted = [expected, [expected[0], config.arch]]  # schemas 1 to 3 name no variant
    if config.framework == "keras" and config.variant:
        accepted.append([FRAMEWORKS["torch"].manifest_name, config.network])
    if found not in accepted:
        raise ConfigError(
            "A network starts from a bundle of its own architecture and framework; the ResNets v1 "
            f"in Keras from those of PyTorch too. Expected {' '.join(expected)}. "
            f"Received: {directory} with {' '.join(found)}"
        )
    verify_files(directory, manifest)
    initial = weights.from_bundle(config, directory, manifest)
    record = {"from": "bundle", "name": manifest.name, "version": manifest.version}
    record["sha256"] = file_digest(directory / "manifest.json")[1]
    return dataclasses.replace(initial, labels=tuple(manifest.labels), record=record)
