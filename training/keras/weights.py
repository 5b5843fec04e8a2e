"""Weights in Keras: those of keras.applications for ImageNet, a file, a SavedModel bundle.

Its twin is `training/torch/weights.py`.
The backbone and the classifier of an `Initial` are lists of arrays in the order of
`network.weights`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import warnings
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import tensorflow as tf

# The MD5 with and without classifier; Keras has no public name for it.
from keras.src.applications.resnet import WEIGHTS_HASHES
from numpy.typing import NDArray

from bundle.format.manifest import Manifest
from bundle.normalisation import CAFFE, MINUS_ONE_TO_ONE, Normalisation
from training.config import TrainConfig
from training.errors import WeightsError
from training.keras.networks import APPLICATIONS, build_network
from training.keras.torch_weights import assign, read_torchscript
from training.weights.initial import Initial
from training.weights.published import USUAL_PIXELS, Published

# Top-1 accuracy on the validation set of ImageNet, https://keras.io/api/applications/
ACCURACY = {
    "resnet50": 0.749,
    "resnet101": 0.764,
    "resnet152": 0.766,
    "resnet50v2": 0.760,
    "resnet101v2": 0.772,
    "resnet152v2": 0.780,
}
SUFFIXES = (".weights.h5", ".keras", ".h5")


def imagenet(config: TrainConfig, with_classifier: bool) -> Initial:
    """The ImageNet weights of keras.applications, downloaded and verified by Keras once.

    Raises:
        WeightsError: they can't be downloaded, or the file has another hash.
    """
    shape = {} if with_classifier else {"input_shape": (None, None, 3)}
    try:
        network = APPLICATIONS[config.arch](
            weights="imagenet", include_top=with_classifier, **shape
        )
    except Exception as exc:  # keras.utils.get_file raises Exception itself
        raise WeightsError(
            f"The weights of keras.applications for {config.arch} can't be downloaded ({exc}). "
            "Expected internet access. Without it, bring the file from elsewhere: --init FILE, or "
            "--weights FILE of `pretrained`."
        ) from exc
    record = {"from": "imagenet", "weights": f"keras.applications {config.arch}"}
    arrays = network.get_weights()
    return dataclasses.replace(_split(arrays, with_classifier, _convention(config)), record=record)


def published(arch: str) -> Published:
    """The metadata of the weights of keras.applications, from keras.io."""
    return Published(
        accuracy=ACCURACY[arch],
        source="https://keras.io/api/applications/",
        # keras.io states a central crop of 224 pixels, but not of which size: 256 as in He et al.
        pixels=USUAL_PIXELS,
    )


def is_published(arch: str, path: Path) -> bool:
    """Whether the file holds the weights of keras.applications, classifier included."""
    with path.open("rb") as file:
        return bool(hashlib.file_digest(file, "md5").hexdigest() == WEIGHTS_HASHES[arch][0])


def fetch(url: str, path: Path) -> None:
    """Download `url` to `path` by Keras, with a progress bar."""
    keras.utils.get_file(path.name, url, cache_dir=str(path.parent), cache_subdir="")


def from_file(config: TrainConfig, path: Path) -> Initial:
    """The weights in `path` (.weights.h5, .keras, .h5) of keras.applications or of our networks.

    Raises:
        WeightsError: it can't be read, or holds another network.
    """
    if not path.name.endswith(SUFFIXES):
        raise WeightsError(
            f"Weights of Keras are files of {', '.join(SUFFIXES)}. Received: {str(path)!r}"
        )
    try:
        classes = _classes(path)
    except (OSError, KeyError, zipfile.BadZipFile) as exc:
        raise WeightsError(
            f"The file can't be read as weights of Keras: {exc}. Expected what "
            f"model.save_weights(...) writes. Received: {str(path)!r}"
        ) from exc
    reasons = []
    for network in _candidates(config, classes):
        try:
            with warnings.catch_warnings():
                # Keras only warns of layers that the file lacks; here that is an error.
                warnings.simplefilter("error", UserWarning)
                network.load_weights(path)
        except (ValueError, KeyError, UserWarning) as exc:
            reasons.append(str(exc).splitlines()[0])
        else:
            return _split(network.get_weights(), classes is not None, _convention(config))
    raise WeightsError(
        f"The weights do not fit the network: {reasons[-1]:.300}. Expected weights of "
        f"{config.arch}. Received: {str(path)!r}"
    )


def from_bundle(config: TrainConfig, directory: Path, manifest: Manifest) -> Initial:
    """The weights of the artifact of a bundle whose files have been verified."""
    normalisation = Normalisation.from_dict(manifest.trained.config)
    if manifest.source.format == "torchscript":
        path = directory / manifest.source.path
        return _from_torch(config, path, len(manifest.labels), normalisation)
    # The image size decides about the stem.
    recorded = dataclasses.replace(
        config, init="random", image_size=manifest.input.height, small_crop=0
    )
    network = build_network(recorded, len(manifest.labels), normalisation)
    variables = directory / manifest.source.path / "variables" / "variables"
    try:
        tf.train.Checkpoint(model=network).read(str(variables)).assert_existing_objects_matched()
    except (AssertionError, ValueError, tf.errors.OpError) as exc:
        raise WeightsError(
            f"The variables of the bundle do not fit {config.arch} of this version: "
            f"{str(exc).splitlines()[0]}. Received: {str(directory)!r}"
        ) from exc
    return _split(network.get_weights(), True, normalisation)


def _from_torch(
    config: TrainConfig, path: Path, classes: int, normalisation: Normalisation
) -> Initial:
    state = read_torchscript(path)
    network = build_network(config, classes, normalisation)
    try:
        assign(network.get_layer("backbone"), network.get_layer("classifier"), state)
    except (KeyError, ValueError) as exc:
        raise WeightsError(
            f"The weights of the bundle do not fit {config.network}: {exc}. Expected those of a "
            f"network of that name. Received: {str(path)!r}"
        ) from exc
    return _split(network.get_weights(), True, normalisation)


def load_weights(network: keras.Model, initial: Initial) -> None:
    """Load the weights into `network`; weights that `initial` lacks stay as they are.

    Raises:
        WeightsError: the weights are those of another network, for example one with another stem.
    """
    if initial.backbone is None:
        return
    given = [*initial.backbone, *(initial.classifier or [])]
    own = network.weights if initial.classifier else network.weights[:-2]
    shapes = [[tuple(value.shape) for value in values] for values in (own, given)]
    if shapes[0] != shapes[1]:
        pairs = ((v.path, a, b) for v, a, b in zip(own, *shapes, strict=False) if a != b)
        name, mine, theirs = next(
            pairs, ("the network", f"{len(own)} arrays", f"{len(given)} arrays")
        )
        raise WeightsError(
            f"The weights do not fit the network: {name} is {theirs} in the weights and {mine} in "
            "the network. Expected weights of the same architecture, for the same kind of images. "
            f"Received: {initial.record}"
        )
    for variable, value in zip(own, given, strict=True):
        variable.assign(value)


def _split(
    arrays: list[NDArray[Any]], with_classifier: bool, normalisation: Normalisation | None
) -> Initial:
    if not with_classifier:
        return Initial(arrays, normalisation=normalisation)
    # The kernel and the bias of the classifier come last.
    return Initial(arrays[:-2], arrays[-2:], normalisation=normalisation)


def _convention(config: TrainConfig) -> Normalisation | None:
    """The normalisation of keras.applications, `preprocess_input` of each family."""
    if config.arch not in APPLICATIONS:
        return None
    return MINUS_ONE_TO_ONE if config.arch.endswith("v2") else CAFFE


def _candidates(config: TrainConfig, classes: int | None) -> list[keras.Model]:
    """The models whose weights a file may have; classes None: a file without classifier."""
    if classes is None:
        if config.arch not in APPLICATIONS:
            # The file does not fit it, and the error says why.
            return [build_network(config, 2, CAFFE)]
        return [
            APPLICATIONS[config.arch](weights=None, include_top=False, input_shape=(None, None, 3))
        ]
    models = [build_network(config, classes, CAFFE)]
    if config.arch in APPLICATIONS:
        models.insert(0, APPLICATIONS[config.arch](weights=None, classes=classes))
    return models


def _classes(path: Path) -> int | None:
    """The number of classes in a file: the classifier is the only matrix of a ResNet, if any."""
    file: Any = path
    if path.name.endswith(".keras"):
        with zipfile.ZipFile(path) as archive:
            file = io.BytesIO(archive.read("model.weights.h5"))
    found: list[int] = []

    def visit(_: str, value: Any) -> None:
        if isinstance(value, h5py.Dataset) and np.ndim(value) == 2:
            found.append(value.shape[1])

    with h5py.File(file) as content:
        content.visititems(visit)
    return found[0] if found else None
