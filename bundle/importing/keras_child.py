"""Keras files and SavedModels to a SavedModel: `python -m bundle.importing.keras_child REQUEST`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bundle.errors import ImportFailed
from bundle.importing.child import (
    TINY,
    Findings,
    normalised,
    sample_pixels,
    serve_request,
    set_input,
    set_logits,
    set_normalisation,
)
from bundle.importing.keras_models import (
    architecture,
    feature_layers,
    read_model,
    scales_itself,
    usual_normalisation,
)
from bundle.importing.options import Options
from bundle.normalisation import Normalisation
from bundle.runtimes.savedmodel import check_graph

FOLDER = "saved_model"
ARTIFACT = {
    "id": "savedmodel-fp32",
    "format": "savedmodel",
    "path": FOLDER,
    "precision": "fp32",
    "source": True,
    "derivation": None,
    "speeds": [],
}
# image_dataset_from_directory of Keras stretches images.
USUAL: dict[str, Any] = {"size": 224, "resize": None, "interpolation": "bilinear"}
INSIDE = "0..255"  # the model scales pixels itself


@dataclass
class Network:
    """A loaded model: images in its own input to outputs."""

    owner: Any  # has the variables
    run: Callable[[Any], Any]
    shape: list[int | None]  # of its input
    usual: tuple[str, str] | None = None  # normalisation
    dtype: str = "float32"
    heatmap: Callable[[Any, Any], tuple[Any, Any]] | None = None  # outputs and heat map

    @property
    def layout(self) -> str:
        """The order of the dimensions of its input."""
        return "NCHW" if self.shape[1] == 3 and self.shape[3] != 3 else "NHWC"


def read(kind: str, path: Path, options: Options, target: Path) -> Findings:
    """Read a model and write `saved_model/` into `target`."""
    if kind == "savedmodel":
        check_graph(path)
    import keras  # noqa: PLC0415 - heavy, and for this process only
    import tensorflow as tf  # noqa: PLC0415

    versions = {"tensorflow": str(tf.__version__), "keras": str(keras.__version__)}
    findings = Findings(ARTIFACT, {"name": "tensorflow", "versions": versions})
    if kind == "savedmodel":
        network = _signature(path, options)
    else:
        network = _keras(read_model(kind, path, options), options, findings)
    if network.dtype == "uint8" or (network.usual and network.usual[0] == INSIDE):
        if options.normalise not in (None, INSIDE):
            findings.notes.append("the model scales pixels itself, so --normalise is left out")
        options = replace(options, normalise=INSIDE)
        findings.changeable = False
        findings.notes.append("the model scales pixels itself")
    how = set_normalisation(findings, options, network.usual)
    sides = network.shape[2:] if network.layout == "NCHW" else network.shape[1:3]
    stated = (sides[0], sides[1]) if sides[0] and sides[1] else None
    geometry = set_input(findings, options, stated, USUAL)
    x = normalised(sample_pixels(geometry), how, network.layout)
    outputs = _by_batch(network)(tf.constant(x.astype(network.dtype)))
    set_logits(findings, options, outputs.numpy(), target)
    if network.heatmap:
        maps = network.heatmap(tf.constant(x[:1]), tf.zeros([1], tf.int64))[1]
        findings.heatmap |= {"height": int(maps.shape[1]), "width": int(maps.shape[2])}
    _save(network, how, findings, target)
    return findings


def _keras(model: Any, options: Options, findings: Findings) -> Network:
    import tensorflow as tf  # noqa: PLC0415

    shape = model.input_shape
    if not isinstance(shape, tuple) or len(shape) != 4 or 3 not in (shape[1], shape[3]):
        raise ImportFailed(
            "The model does not take one batch of colour images. Expected an input of "
            f"[None, height, width, 3]. Received: {shape}"
        )
    if not isinstance(model.output_shape, tuple):
        raise ImportFailed(
            "The model has several outputs. Expected one, [None, classes]: save "
            f"keras.Model(model.input, model.output[0]). Received: {model.output_shape}"
        )
    last = getattr(model.layers[-1], "activation", None)
    if getattr(last, "__name__", "") == "sigmoid" and model.output_shape[-1] != 1:
        raise ImportFailed(
            "The model ends in a sigmoid: any number of its classes may be true of an image. "
            "Expected one of several classes, as with a softmax. Received: sigmoid"
        )
    findings.architecture = options.arch or architecture(model)
    findings.parameters = int(model.count_params())
    inside = (INSIDE, "") if scales_itself(model) else None
    network = Network(
        model,
        lambda x: model(x, training=False),
        list(shape),
        inside or usual_normalisation(model),
    )
    found = feature_layers(model) if network.layout == "NHWC" else None
    if found:
        import keras  # noqa: PLC0415

        features, dense = found
        both = keras.Model(model.inputs, [features, model.outputs[0]])

        def explain(x: Any, class_index: Any) -> tuple[Any, Any]:
            """Outputs and class activation maps [N, h, w] (Zhou et al. 2016)."""
            maps, outputs = both(x, training=False)
            rows = tf.gather(tf.transpose(dense.kernel), class_index)
            return outputs, tf.einsum("nhwc,nc->nhw", maps, rows)

        if _is_mean(both, dense, model.input_shape):
            network.heatmap = explain
            findings.heatmap = {"method": "class_activation", "channels": int(features.shape[-1])}
    return network


def _is_mean(both: Any, dense: Any, shape: Any) -> bool:
    """Whether the dense layer of the mean of the features gives the model's outputs."""
    import tensorflow as tf  # noqa: PLC0415

    x = np.random.default_rng(0).random([1, *(side or 224 for side in shape[1:])], np.float32)
    features, outputs = both(x, training=False)
    logits = tf.reduce_mean(features, [1, 2]) @ dense.kernel
    logits = logits + dense.bias if dense.use_bias else logits
    close: bool = any(
        np.allclose(each, outputs, rtol=1e-3, atol=1e-4) for each in (logits, tf.nn.softmax(logits))
    )
    return close


def _signature(path: Path, options: Options) -> Network:
    import tensorflow as tf  # noqa: PLC0415

    loaded = tf.saved_model.load(str(path))
    signature = loaded.signatures.get("serving_default")
    if signature is None:
        raise ImportFailed(
            "The SavedModel has no signature serving_default, so its input is not known. Save it "
            "with signatures, as model.export does. "
            f"Received: {', '.join(loaded.signatures) or 'no signature'}"
        )
    specs = signature.structured_input_signature[1]
    name, spec = next(iter(specs.items()), ("", None))
    dims = spec.shape.as_list() if spec is not None and spec.shape.rank == 4 else []
    if (
        spec is None
        or len(specs) != 1
        or not dims
        or not (spec.dtype.is_floating or spec.dtype == tf.uint8)
    ):
        found = {key: f"{each.dtype.name} {each.shape}" for key, each in specs.items()}
        raise ImportFailed(
            "The SavedModel does not take one batch of images. Expected one input, float32 or "
            f"uint8 [None, height, width, 3]. Received: {found}"
        )

    def run(x: Any) -> Any:
        outputs = signature(**{name: x})
        for key in sorted(outputs, key=lambda each: (each != "logits", each)):
            if outputs[key].shape.rank in (2, None) and outputs[key].dtype.is_floating:
                return outputs[key]
        return next(iter(outputs.values()))

    if options.layout == "NCHW":
        dims[1] = 3
    return Network(loaded, run, dims, dtype=spec.dtype.name)


def _by_batch(network: Network) -> Callable[[Any], Any]:
    """`run` for any number of images: one by one for a model of a fixed number."""
    import tensorflow as tf  # noqa: PLC0415

    count = network.shape[0]
    if count is None:
        return network.run
    return lambda x: tf.map_fn(
        lambda row: network.run(tf.repeat(row[None], count, 0))[0],
        x,
        fn_output_signature=tf.float32,
    )


def _save(network: Network, how: Normalisation, findings: Findings, target: Path) -> None:
    import tensorflow as tf  # noqa: PLC0415

    mean, std = (np.array(v, np.float32) for v in (how.mean, how.std))
    served = tf.Module()
    served.owner = network.owner
    forward = _by_batch(network)

    def prepared(pixels: Any) -> Any:
        x = tf.cast(pixels, tf.float32)
        if how.order == "BGR":
            x = tf.reverse(x, [-1])
        x = (x - mean) / std
        x = tf.transpose(x, [0, 3, 1, 2]) if network.layout == "NCHW" else x
        return tf.cast(x, network.dtype)

    def logits(outputs: Any) -> Any:
        outputs = tf.cast(outputs, tf.float32)
        if findings.outputs == "probabilities":
            outputs = tf.math.log(tf.maximum(outputs, TINY))
        return tf.ensure_shape(outputs, [None, findings.classes])

    def predict(pixels: Any) -> dict[str, Any]:
        return {"logits": logits(forward(prepared(pixels)))}

    def explain(pixels: Any, class_index: Any) -> dict[str, Any]:
        assert network.heatmap is not None  # noqa: S101 - for mypy
        outputs, heatmap = network.heatmap(prepared(pixels), class_index)
        return {"logits": logits(outputs), "heatmap": tf.cast(heatmap, tf.float32)}

    shape = [None, findings.input["height"], findings.input["width"], 3]
    pixels = tf.TensorSpec(shape, tf.uint8, name="pixels")
    served.predict = tf.function(predict, input_signature=[pixels])
    signatures = {"serving_default": served.predict}
    if network.heatmap:
        class_index = tf.TensorSpec([None], tf.int64, name="class_index")
        served.explain = tf.function(explain, input_signature=[pixels, class_index])
        signatures["explain"] = served.explain
    tf.saved_model.save(served, str(target / FOLDER), signatures=signatures)


if __name__ == "__main__":
    serve_request(read)
