"""Tiny real bundles in both frameworks, for any test that needs one.

Each is made by a subprocess, so that the test process never loads torch and tensorflow together:

    make_torch_bundle(root, name="tiny-torch", labels=("blue", "green", "red"), size=32) -> folder
    make_keras_bundle(root, name="tiny-keras", ...)

The network is one 1x1 convolution, global average pooling and one linear layer, with weights set
by hand: channel k is how much colour k exceeds the mean of the other two, so a mostly blue, green
or red image gets that label. It runs as a program too: `python -m tests.bundles torch|keras ROOT`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from bundle.format.manifest import Input
from bundle.format.writer import BundleWriter
from bundle.imaging.decode import read_input
from bundle.scores import calibrated_softmax, top_k

LABELS = ("blue", "green", "red")
TEMPERATURE = 1.5
RGB_CHANNEL = {"red": 0, "green": 1, "blue": 2}
GAIN = 4.0


def make_torch_bundle(
    root: Path,
    name: str = "tiny-torch",
    labels: tuple[str, ...] = LABELS,
    size: int = 32,
    version: int | None = None,
) -> Path:
    """Write a TorchScript bundle below `root` and return its folder."""
    return _make("torch", root, name, labels, size, version)


def make_keras_bundle(
    root: Path,
    name: str = "tiny-keras",
    labels: tuple[str, ...] = LABELS,
    size: int = 32,
    version: int | None = None,
) -> Path:
    """Write a SavedModel bundle below `root` and return its folder."""
    return _make("keras", root, name, labels, size, version)


def colour_picture(
    label: str, size: tuple[int, int] = (48, 40), seed: int = 0
) -> npt.NDArray[np.uint8]:
    """A noisy uint8 [H, W, 3] image, mostly of the colour that `label` names."""
    noise = np.random.default_rng(seed).integers(0, 90, (*size, 3))
    noise[..., RGB_CHANNEL[label]] += 140
    return noise.astype(np.uint8)


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """`pixels` as a PNG file."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def input_record(size: int) -> dict[str, Any]:
    """The manifest's `input` of the tiny networks."""
    return {
        "height": size,
        "width": size,
        "color_mode": "RGB",
        "dtype": "uint8",
        "layout": "NHWC",
        "resize": {"rule": "shorter_side", "size": size, "interpolation": "bilinear"},
        "crop": {"rule": "center", "height": size, "width": size},
    }


def manifest_fields(
    framework: str, labels: tuple[str, ...], size: int, golden: list[dict[str, Any]]
) -> dict[str, Any]:
    """Every field of a manifest that `BundleWriter` does not fill in."""
    torch = framework == "torch"
    return {
        "description": "Recognises blue, green and red images; made by tests/bundles.py.",
        "task": "image-classification",
        "labels": list(labels),
        "input": input_record(size),
        "artifacts": [
            {
                "id": "torchscript-fp32" if torch else "savedmodel-fp32",
                "format": "torchscript" if torch else "savedmodel",
                "path": "model.pt" if torch else "saved_model",
                "precision": "fp32",
                "source": True,
                "derivation": None,
                "speeds": [],
            }
        ],
        "framework": {
            "name": "pytorch" if torch else "tensorflow",
            "versions": {"numpy": np.__version__},
        },
        "architecture": {
            "name": "tiny",
            "parameters": 24,
            "feature_map": {"height": size, "width": size, "channels": 3},
        },
        "training": {
            "command": f"python -m tests.bundles {framework} ROOT",
            "dataset": "none: the weights are set by hand",
            "train_samples": 0,
            "validation_samples": 0,
            "test_samples": 3,
            "epochs": 0,
            "seconds": 0.0,
            "hardware": "any",
            "seed": 0,
            "config": {},
        },
        "metrics": [
            {
                "name": "accuracy",
                "value": 1.0,
                "split": "test",
                "samples": 3,
                "interval_95": [0.438, 1.0],
                "runtime": "torchscript" if torch else "tensorflow",
                "precision": "fp32",
            }
        ],
        "calibration": {
            "method": "temperature",
            "temperature": TEMPERATURE,
            "split": "validation",
            "samples": 3,
            "expected_calibration_error_before": 0.02,
            "expected_calibration_error_after": 0.01,
            "bins": 15,
        },
        "export": {"max_logit_difference": 0.0, "samples": 3},
        "golden": {"tolerance": 0.001, "samples": golden},
    }


def _make(
    framework: str, root: Path, name: str, labels: tuple[str, ...], size: int, version: int | None
) -> Path:
    request = {
        "root": str(root.resolve()),
        "name": name,
        "labels": labels,
        "size": size,
        "version": version,
    }
    done = subprocess.run(
        # Not as a file: its folder would come first on the path, and has a `bundle` too.
        [sys.executable, "-m", __name__, framework, json.dumps(request)],
        cwd=Path(__file__).parents[1],
        # As in bundle/worker/process.py: nothing here needs Keras.
        env={**os.environ, "TF_USE_LEGACY_KERAS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(
            f"tests/bundles.py {framework} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        )
    return Path(done.stdout.strip().splitlines()[-1])


def _weights(labels: tuple[str, ...]) -> npt.NDArray[np.float32]:
    """[channel, RGB]: the colour of each label against the mean of the other two."""
    weights = np.full((len(labels), 3), -0.5, dtype=np.float32)
    for row, label in enumerate(labels):
        weights[row, RGB_CHANNEL[label]] = 1.0
    return weights


def tiny_logits(
    pixels: npt.NDArray[np.uint8], labels: tuple[str, ...] = LABELS
) -> npt.NDArray[np.float32]:
    """Logits, float32 [N, C], of the tiny network for pixels, uint8 [N, H, W, 3]."""
    features = np.maximum((pixels / np.float32(255)) @ _weights(labels).T, 0)
    logits: npt.NDArray[np.float32] = GAIN * features.mean(axis=(1, 2), dtype=np.float32)
    return logits


Infer = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]


def _export_torch(directory: Path, labels: tuple[str, ...], _size: int) -> Infer:
    import torch  # noqa: PLC0415

    class Tiny(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = torch.nn.Conv2d(3, len(labels), 1, bias=False)
            self.linear = torch.nn.Linear(len(labels), len(labels))
            self.convolution.weight.data = torch.from_numpy(_weights(labels))[:, :, None, None]
            self.linear.weight.data = GAIN * torch.eye(len(labels))
            self.linear.bias.data.zero_()

        def features(self, pixels: torch.Tensor) -> torch.Tensor:
            scaled = pixels.permute(0, 3, 1, 2).to(torch.float32) / 255.0
            return torch.relu(self.convolution(scaled))

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.linear(self.features(pixels).mean(dim=[2, 3]))
            return logits

        @torch.jit.export
        def explain(
            self, pixels: torch.Tensor, class_index: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            features = self.features(pixels)
            logits = self.linear(features.mean(dim=[2, 3]))
            return logits, torch.einsum("nc,nchw->nhw", self.linear.weight[class_index], features)

    model = Tiny().eval()
    torch.jit.script(model).save(str(directory / "model.pt"))  # type: ignore[no-untyped-call]

    def infer(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        logits: npt.NDArray[np.float32] = model(torch.from_numpy(pixels)).detach().numpy()
        return logits

    return infer


def _export_keras(directory: Path, labels: tuple[str, ...], size: int) -> Infer:
    import tensorflow as tf  # noqa: PLC0415

    convolution = tf.Variable(_weights(labels).T[None, None])
    linear = tf.Variable(GAIN * np.eye(len(labels), dtype=np.float32))
    shape = [None, size, size, 3]

    class Tiny(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.convolution = convolution
            self.linear = linear

        def features(self, pixels: Any) -> Any:
            scaled = tf.cast(pixels, tf.float32) / 255.0
            return tf.nn.relu(tf.nn.conv2d(scaled, self.convolution, 1, "VALID"))

        @tf.function(input_signature=[tf.TensorSpec(shape, tf.uint8, name="pixels")])  # type: ignore[untyped-decorator]
        def serve(self, pixels: Any) -> Any:
            return {"logits": tf.reduce_mean(self.features(pixels), [1, 2]) @ self.linear}

        @tf.function(  # type: ignore[untyped-decorator]
            input_signature=[
                tf.TensorSpec(shape, tf.uint8, name="pixels"),
                tf.TensorSpec([None], tf.int64, name="class_index"),
            ]
        )
        def explain(self, pixels: Any, class_index: Any) -> Any:
            features = self.features(pixels)
            rows = tf.gather(tf.transpose(self.linear), class_index)
            heatmap = tf.einsum("nc,nhwc->nhw", rows, features)
            return {"logits": tf.reduce_mean(features, [1, 2]) @ self.linear, "heatmap": heatmap}

    model = Tiny()
    tf.saved_model.save(
        model,
        str(directory / "saved_model"),
        {"serving_default": model.serve, "explain": model.explain},
    )
    return lambda pixels: model.serve(tf.constant(pixels))["logits"].numpy()


def _write(framework: str, request: dict[str, Any]) -> Path:
    labels, size = tuple(request["labels"]), request["size"]
    with BundleWriter(Path(request["root"]), request["name"], request["version"]) as writer:
        export = _export_torch if framework == "torch" else _export_keras
        infer = export(writer.directory, labels, size)
        (writer.directory / "golden").mkdir()
        golden = []
        for label in labels:
            file = f"golden/{label}.png"
            data = png(colour_picture(label))
            (writer.directory / file).write_bytes(data)
            pixels = read_input(data, Input.model_validate(input_record(size))).pixels
            scores = calibrated_softmax(infer(pixels[None]), TEMPERATURE)[0]
            top = [
                {key: item[key] for key in ("index", "label", "score")}
                for item in top_k(scores, labels, 5)
            ]
            golden.append({"file": file, "top": top})
        return writer.commit(manifest_fields(framework, labels, size, golden))


if __name__ == "__main__":
    argument = sys.argv[2]
    defaults = {
        "root": argument,
        "name": f"tiny-{sys.argv[1]}",
        "labels": LABELS,
        "size": 32,
        "version": None,
    }
    request = json.loads(argument) if argument.startswith("{") else defaults
    print(_write(sys.argv[1], request))  # noqa: T201
