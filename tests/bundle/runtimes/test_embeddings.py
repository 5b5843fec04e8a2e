"""Heat maps and embeddings of the same network agree in every runtime, which are processes here."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from bundle.format.manifest import read_manifest
from bundle.imaging.decode import read_input
from bundle.runtimes import openvino
from bundle.runtimes.embeddings import add_openvino_output
from bundle.worker.blocking import RuntimeProcess
from tests.bundles import colour_picture
from tests.sources import ROOT
from tests.tiny_networks import LABELS

MODELS = ROOT / "models"
TIMEOUT_S = 120.0
# More than the embedding has elements.
COUNT, DIMENSION = 160, 64
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8, 3), np.uint8).repeat(4, 1)
PIXELS = np.ascontiguousarray(PIXELS.repeat(4, 2))
CLASSES = np.arange(COUNT) % 10


class Found(NamedTuple):
    dimension: int | None
    logits: npt.NDArray[np.float32]
    heatmaps: npt.NDArray[np.float32]
    embeddings: npt.NDArray[np.float32]


def found(
    bundle: Path,
    artifact: str,
    pixels: npt.NDArray[np.uint8] = PIXELS,
    classes: npt.NDArray[np.int64] = CLASSES,
) -> Found:
    with RuntimeProcess(bundle, artifact, "cpu", threads=2) as process:
        process.start(TIMEOUT_S)
        logits, embeddings = process.embed(pixels, TIMEOUT_S)
        explained, heatmaps = process.explain(pixels, classes, TIMEOUT_S)
        alone = process.infer(pixels, TIMEOUT_S)
        np.testing.assert_allclose(logits, alone, atol=1e-4)
        np.testing.assert_allclose(explained, alone, atol=1e-4)
        return Found(process.info["embedding"], logits, heatmaps, embeddings)


def relative_error(
    found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """The length of the difference of each pair of vectors by the length of the expected one."""
    errors: npt.NDArray[np.float64] = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(
        expected, axis=1
    )
    return errors


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("cifar10-resnet20-pytorch", "torchscript-fp32"),
        ("cifar10-resnet20-keras", "savedmodel-fp32"),
    ],
)
def test_heat_maps_and_embeddings_of_openvino_are_those_of_the_source(
    name: str, source: str
) -> None:
    expected = found(MODELS / name / "1", source)
    fp32 = found(MODELS / name / "1", "openvino-fp32")

    assert expected.dimension == fp32.dimension == DIMENSION
    assert np.abs(fp32.heatmaps - expected.heatmaps).max() < 1e-2
    assert relative_error(fp32.embeddings, expected.embeddings).max() < 1e-3
    # It is what the classifier gets: the logits are a linear function of it, found on one half.
    inputs = np.hstack([expected.embeddings, np.ones((COUNT, 1), np.float32)])
    half = slice(None, COUNT // 2), slice(COUNT // 2, None)
    weights, *_ = np.linalg.lstsq(inputs[half[0]], expected.logits[half[0]], rcond=None)
    np.testing.assert_allclose(inputs[half[1]] @ weights, expected.logits[half[1]], atol=1e-2)


@pytest.mark.parametrize("name", ["cifar10-resnet20-pytorch", "cifar10-resnet20-keras"])
def test_embeddings_of_photos_are_close_in_int8(name: str) -> None:
    bundle = MODELS / name / "1"
    manifest = read_manifest(bundle)
    files = [(bundle / sample.file).read_bytes() for sample in manifest.golden.samples]
    photos = np.stack([read_input(file, manifest.input).pixels for file in files])
    classes = np.array([sample.top[0].index for sample in manifest.golden.samples])

    fp32 = found(bundle, "openvino-fp32", photos, classes)
    int8 = found(bundle, "openvino-int8", photos, classes)

    assert int8.dimension == DIMENSION
    assert relative_error(int8.embeddings, fp32.embeddings).max() < 0.25
    heatmaps = [each.heatmaps.reshape(len(photos), -1) for each in (int8, fp32)]
    assert relative_error(*heatmaps).max() < 0.25


def test_torchscript_and_savedmodel_agree_on_the_same_weights(
    torch_bundle_root: Path, keras_bundle_root: Path
) -> None:
    pixels = np.stack([colour_picture(label, (32, 32), seed=5) for label in LABELS])
    by_torch, by_keras = (
        found(bundle, artifact, pixels, np.arange(3))
        for bundle, artifact in (
            (torch_bundle_root / "tiny-torch" / "1", "torchscript-fp32"),
            (keras_bundle_root / "tiny-keras" / "1", "savedmodel-fp32"),
        )
    )

    assert by_torch.dimension == by_keras.dimension == 3
    assert np.abs(by_torch.heatmaps - by_keras.heatmaps).max() < 1e-2
    assert relative_error(by_keras.embeddings, by_torch.embeddings).max() < 1e-3


def graph_of(layers: Any) -> Any:
    """An OpenVINO model from pixels [N, 4, 4, 3] to `logits`, which `layers` make of features."""
    ov = openvino.import_openvino()
    ops = ov.opset13
    pixels = ops.parameter([-1, 4, 4, 3], np.uint8, name="pixels")
    pixels.output(0).get_tensor().set_names({"pixels"})
    moved = ops.transpose(ops.convert(pixels, "f32"), np.array([0, 3, 1, 2]))
    logits = layers(ops, moved)
    result = ops.result(logits)
    result.output(0).get_tensor().set_names({"logits"})
    return ov.Model([result], [pixels])


def pooled(ops: Any, features: Any) -> Any:
    return ops.reduce_mean(features, np.array([2, 3]), True)  # [N, 3, 1, 1]


def squeezed(ops: Any, features: Any) -> Any:
    return ops.squeeze(pooled(ops, features), np.array([2, 3]))


def flat(ops: Any, features: Any) -> Any:
    return ops.reshape(pooled(ops, features), np.array([-1, 3]), False)


def linear(ops: Any, vector: Any) -> Any:
    product = ops.matmul(vector, np.eye(3, dtype=np.float32), False, True)
    return ops.add(product, np.ones((1, 3), np.float32))


@pytest.mark.parametrize(
    ("layers", "dimension"),
    [
        (lambda ops, x: linear(ops, squeezed(ops, x)), 3),
        (
            lambda ops, x: ops.softmax(linear(ops, ops.reshape(pooled(ops, x), [-1, 3], False)), 1),
            3,
        ),
        (squeezed, None),
        # Each pixel has a product of its own: there is no vector of an image.
        (lambda ops, x: ops.matmul(x, np.eye(4, dtype=np.float32), False, False), None),
    ],
    ids=["squeezed", "reshaped, then softmax", "no linear layer", "a product for each row"],
)
def test_the_walk_through_an_openvino_graph_ends_at_a_vector_or_nowhere(
    layers: Any, dimension: int | None
) -> None:
    model = graph_of(layers)

    assert add_openvino_output(model) == dimension
    assert len(model.outputs) == (1 if dimension is None else 2)


def test_a_network_without_a_linear_layer_has_no_embeddings_and_is_served_without() -> None:
    ov = openvino.import_openvino()
    model = graph_of(squeezed)
    core = ov.Core()
    add_openvino_output(model)

    found = openvino.Stream(
        {1: openvino._compile(core, model, 1, {"INFERENCE_PRECISION_HINT": "f32"})}
    ).run(np.full((2, 4, 4, 3), 7, np.uint8))

    assert found.logits.tolist() == [[7, 7, 7]] * 2
    assert (found.heatmaps, found.embeddings) == (None, None)
