"""Keras files, opened without running code of theirs: models, and weights of keras.applications."""

from __future__ import annotations

import json
import re
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bundle.errors import ImportFailed
from bundle.importing.options import Options

# Layers that run code of the file's author, or open other files.
_UNSAFE = {
    *("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "StringLookup"),
    *("IntegerLookup", "TextVectorization"),
}
# Before the first weights: pixels go in as they are.
_SCALING = {"Rescaling", "Normalization", "TrueDivide", "Divide", "Multiply", "Subtract"}
# What the names of the models of keras.applications begin with, and their preprocess_input.
_CONVENTIONS = {
    "resnet50v2": "-1..1",
    "resnet101v2": "-1..1",
    "resnet152v2": "-1..1",
    "resnet": "caffe",
    "vgg": "caffe",
    "densenet": "imagenet",
    "mobilenet": "-1..1",
    "inception": "-1..1",
    "xception": "-1..1",
    "nasnet": "-1..1",
}


def read_model(kind: str, path: Path, options: Options) -> Any:
    """The Keras model in a file.

    Raises:
        ImportFailed: It holds code, or weights alone without --arch, or of another architecture.
    """
    import keras  # noqa: PLC0415 - heavy, and for this process only

    if kind == "keras":
        with zipfile.ZipFile(path) as archive:
            _check_config(json.loads(archive.read("config.json")))
        suffix = ".keras"
    else:
        import h5py  # noqa: PLC0415 - comes with keras

        try:
            with h5py.File(path) as file:
                config, legacy = file.attrs.get("model_config"), "layer_names" in file.attrs
                classes = _classes_of_weights(file)
        except OSError as exc:
            raise ImportFailed(
                f"The HDF5 file is damaged or cut off. Copy it again. Received: {path.name!r}"
            ) from exc
        if config is None:
            return _with_weights(path, options, ".h5" if legacy else ".weights.h5", classes)
        _check_config(json.loads(config))
        suffix = ".h5"
    with tempfile.TemporaryDirectory() as folder:
        # Keras goes by the name.
        link = Path(folder) / f"model{suffix}"
        link.symlink_to(path.resolve())
        return keras.saving.load_model(str(link), compile=False, safe_mode=True)


def _with_weights(path: Path, options: Options, suffix: str, classes: int | None) -> Any:
    import keras  # noqa: PLC0415

    known = {
        name.lower(): function
        for name, function in vars(keras.applications).items()
        if callable(function) and name[0].isupper()
    }
    if options.arch is None or options.arch.lower() not in known:
        raise ImportFailed(
            "The Keras file has weights alone, without the network. Expected --arch with a name of "
            "keras.applications, as resnet50 or efficientnetb0, or the whole model, as "
            f"model.save('model.keras') writes it. Received: --arch {options.arch}"
        )
    shape = {"input_shape": (*options.size, 3)} if options.size else {}
    count = classes or options.classes or 1000
    model = known[options.arch.lower()](
        weights=None, classes=count, classifier_activation=None, **shape
    )
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / f"model{suffix}"
        link.symlink_to(path.resolve())
        try:
            model.load_weights(str(link))
        except (ValueError, KeyError, OSError) as exc:
            raise ImportFailed(
                f"The weights do not fit --arch {options.arch}. Expected those of this network "
                f"with its classifier. Received: {' '.join(str(exc).split())[:200]}"
            ) from exc
    return model


def _classes_of_weights(file: Any) -> int | None:
    """The number of outputs of the last dense layer in a file of weights."""
    found: dict[tuple[bool, int], int] = {}

    def visit(name: str, item: Any) -> None:
        layer = re.search(r"(?:^|/)(predictions|dense)(?:_(\d+))?(?:/|$)", name)
        if layer and len(getattr(item, "shape", ())) == 2:
            found[layer[1] == "predictions", int(layer[2] or 0)] = item.shape[1]

    file.visititems(visit)
    return found[max(found)] if found else None


def _check_config(config: Any) -> None:
    """Refuse a configuration with code, or with classes that are not Keras's.

    Raises:
        ImportFailed: It has one.
    """
    for entry in _entries(config):
        name, module = entry["class_name"], entry.get("module")
        registered = str(entry.get("registered_name") or "")
        if name in _UNSAFE:
            what = f"a {name} layer, which holds code or opens other files"
        elif (
            (module and not re.match(r"(keras|builtins)(\.|$)", module))
            or re.search(r"\.(utils|saving)\b", module or "")
            or (">" in registered and not registered.lower().startswith("keras"))
        ):
            what = f"the class {registered or name} of {module}, whose code is not in the file"
        else:
            continue
        raise ImportFailed(
            f"The Keras model has {what}. Expected layers of Keras alone: use Rescaling for "
            "scaling, or export the model as ONNX or, with model.export, as a SavedModel. "
            f"Received: {name}"
        )


def _entries(config: Any) -> Iterator[dict[str, Any]]:
    if isinstance(config, dict):
        if isinstance(config.get("class_name"), str):
            yield config
        for value in config.values():
            yield from _entries(value)
    elif isinstance(config, list):
        for value in config:
            yield from _entries(value)


def usual_normalisation(model: Any) -> tuple[str, str] | None:
    """What is assumed of the input of a model that does not scale pixels itself, and why."""
    for name in _names(model):
        for start, how in _CONVENTIONS.items():
            if name.lower().startswith(start):
                return how, f"the convention of keras.applications for {name}"
    return None


def architecture(model: Any) -> str | None:
    """The name of the network: of the model, or of one in it, if somebody gave it a name."""
    usual = re.compile(r"(sequential|functional|model)(_\d+)?")
    return next((name for name in _names(model) if not usual.fullmatch(name)), None)


def _names(model: Any) -> list[str]:
    return [model.name, *(each.name for each in model.layers if hasattr(each, "layers"))]


def scales_itself(model: Any) -> bool:
    """Whether scaling or normalisation comes before the first layer with weights."""
    for operation in _leaves(model):
        name = type(operation).__name__
        if name in _SCALING:
            return True
        if getattr(operation, "weights", None) and not name.startswith("Random"):
            return False
    return False


def _leaves(model: Any) -> Iterator[Any]:
    """The layers and other operations of a model and of the models in it, in their order."""
    operations = getattr(model, "operations", None)
    for each in operations if operations is not None else model.layers:
        if hasattr(each, "layers"):
            yield from _leaves(each)
        else:
            yield each


def feature_layers(model: Any) -> tuple[Any, Any] | None:
    """The last feature map, a Keras tensor, and the dense layer after its mean; None: no such."""
    rest = [
        layer
        for layer in model.layers
        if type(layer).__name__ not in ("Dropout", "Activation", "Softmax")
    ]
    if len(rest) < 2:
        return None
    pooling, dense = rest[-2:]
    if type(dense).__name__ != "Dense" or type(pooling).__name__ != "GlobalAveragePooling2D":
        return None
    features = pooling.input
    return (features, dense) if len(features.shape) == 4 else None
