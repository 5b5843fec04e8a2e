"""The tiny network of `tests.bundles` in both frameworks, as an OpenVINO IR, and in numpy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

LABELS = ("blue", "green", "red")
RGB_CHANNEL = {"red": 0, "green": 1, "blue": 2}
GAIN = 4.0
IR_NAMES = ("pixels", "class_index", "logits", "heatmap")


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


def export_torch(directory: Path, labels: tuple[str, ...], _size: int) -> Infer:
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


def export_keras(directory: Path, labels: tuple[str, ...], size: int) -> Infer:
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


def export_openvino(path: Path, labels: tuple[str, ...], size: int) -> None:
    """Write the IR that a conversion of the network gives, node by node, which is quicker."""
    import openvino as ov  # noqa: PLC0415
    from openvino import opset13 as op  # noqa: PLC0415

    pixels = op.parameter([-1, size, size, 3], np.uint8, name="pixels")
    index = op.parameter([-1], np.int64, name="class_index")
    images = op.transpose(op.convert(pixels, np.float32), [0, 3, 1, 2])
    scaled = op.divide(images, np.array(255, np.float32))
    kernel = _weights(labels)[:, :, None, None]
    features = op.relu(op.convolution(scaled, kernel, [1, 1], [0, 0], [0, 0], [1, 1]))
    linear = GAIN * np.eye(len(labels), dtype=np.float32)
    means = op.reduce_mean(features, [2, 3], keep_dims=False)
    logits = op.matmul(means, linear, transpose_a=False, transpose_b=True)
    rows = op.unsqueeze(op.gather(linear, index, 0), [2, 3])
    heatmap = op.reduce_sum(features * rows, [1], keep_dims=False)
    model = ov.Model([logits, heatmap], [pixels, index], "tiny")
    for port, name in zip((*model.inputs, *model.outputs), IR_NAMES, strict=True):
        port.get_tensor().set_names({name})
    ov.save_model(model, path, compress_to_fp16=False)
