"""Preprocessing and inference of every peer: the servers differ, this does not.

TorchScript in PyTorch, with images decoded by Pillow; or our OpenVINO IR, with images decoded by
libjpeg-turbo at a fraction of their size, as we do. What runs the model is imported when one is
loaded, so that processes that only forward requests do not pay for it.
"""

from __future__ import annotations

import argparse
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, get_type_hints

import numpy as np
import numpy.typing as npt
from PIL import Image

# As in Image.thumbnail: a JPEG is decoded at a fraction that leaves at least twice the target size.
REDUCING_GAP = 2
IR = ".xml"
IR_SIZES = (4, 1)  # the batches that an IR is compiled for, the largest first

Labels = list[dict[str, str | float]]  # [{"label": ..., "score": ...}, ...], best first
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Options:
    """Command-line options of a peer."""

    port: int
    model: Path  # TorchScript or an OpenVINO IR: uint8 [N, H, W, 3] to float32 logits [N, C]
    labels: Path  # JSON: labels, resize and crop in pixels, interpolation
    workers: int  # processes or threads that run the model
    threads: int  # of the runtime, for each worker
    batch: int  # maximum batch size
    wait_ms: float  # maximum wait for a batch to fill


def options() -> Options:
    """The options of this process, or of the process that spawned it."""
    parser = argparse.ArgumentParser()
    for name, kind in get_type_hints(Options).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, required=True)
    known, _ = parser.parse_known_args()
    return Options(**vars(known))


class Network(Protocol):
    """A loaded model."""

    def scores(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """Softmax scores [N, C] of a batch [N, H, W, 3]."""


class TorchNetwork:
    """TorchScript, frozen."""

    def __init__(self, options: Options) -> None:
        import torch  # noqa: PLC0415 - see the module docstring

        torch.set_num_threads(options.threads)
        self._torch = torch
        module: torch.jit.ScriptModule = torch.jit.load(str(options.model))  # type: ignore[no-untyped-call]
        # Weights may be stored in half precision.
        self._module = torch.jit.freeze(module.eval().float())

    def scores(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """See `Network`."""
        with self._torch.inference_mode():
            found = self._module(self._torch.from_numpy(pixels)).softmax(1)
        scores: npt.NDArray[np.float32] = found.numpy()
        return scores


class OpenVinoNetwork:
    """An IR, compiled for `IR_SIZES`."""

    def __init__(self, options: Options, side: int) -> None:
        import openvino as ov  # noqa: PLC0415 - see the module docstring

        core = ov.Core()
        model = core.read_model(options.model)
        config = {
            "INFERENCE_NUM_THREADS": options.threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self._requests: dict[int, Any] = {}
        for size in IR_SIZES:
            shapes = {"pixels": [size, side, side, 3]}
            if len(model.inputs) > 1:
                shapes["class_index"] = [size]
            model.reshape(shapes)
            self._requests[size] = core.compile_model(model, "CPU", config).create_infer_request()

    def scores(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """See `Network`."""
        found = []
        while len(pixels):
            size = next(size for size in IR_SIZES if size <= len(pixels))
            request = self._requests[size]
            inputs: dict[str, Any] = {"pixels": pixels[:size]}
            if len(request.model_inputs) > 1:
                inputs["class_index"] = np.zeros(size, np.int64)
            request.infer(inputs, share_inputs=True)
            logits = request.get_tensor("logits").data
            powers = np.exp(logits - logits.max(1, keepdims=True))
            found.append(powers / powers.sum(1, keepdims=True))
            pixels = pixels[size:]
        return np.concatenate(found)


class Classifier:
    """A model, warmed up, with its labels and its input size."""

    def __init__(self, options: Options) -> None:
        record = json.loads(options.labels.read_text())
        self._labels: list[str] = record["labels"]
        self._resize: int = record["resize"]
        self._crop: int = record["crop"]
        self._filter = Image.Resampling[record["interpolation"].upper()]
        self._is_ir = options.model.suffix == IR
        self._network: Network = (
            OpenVinoNetwork(options, self._crop) if self._is_ir else TorchNetwork(options)
        )
        # TorchScript profiles the first pass and compiles in the second; then each new shape once.
        for size in (1, 1, *range(1, options.batch + 1)):
            self.classify(np.zeros((size, self._crop, self._crop, 3), np.uint8))

    def decode(self, jpeg: bytes) -> Pixels:
        """The model input uint8 [H, W, 3] of a JPEG."""
        if self._is_ir:
            import simplejpeg  # noqa: PLC0415 - only the environments that run an IR have it

            side = REDUCING_GAP * self._resize
            pixels = simplejpeg.decode_jpeg(jpeg, "RGB", min_height=side, min_width=side)
            return self.prepare(Image.fromarray(pixels))
        return self.prepare(Image.open(io.BytesIO(jpeg)))

    def prepare(self, image: Image.Image) -> Pixels:
        """The model input uint8 [H, W, 3] of an image that is opened and not decoded yet.

        RGB, shorter side resized, centre cropped.
        """
        image.draft("RGB", (REDUCING_GAP * self._resize, REDUCING_GAP * self._resize))
        if image.mode != "RGB":
            image = image.convert("RGB")
        short = min(image.size)
        width, height = (round(side * self._resize / short) for side in image.size)
        image = image.resize((width, height), self._filter)
        left, top = (width - self._crop) // 2, (height - self._crop) // 2
        return np.asarray(image.crop((left, top, left + self._crop, top + self._crop)))

    def classify(self, pixels: Pixels) -> list[Labels]:
        """The five most likely classes of each image of a batch [N, H, W, 3]."""
        scores = self._network.scores(pixels)
        best = np.argsort(-scores, axis=1)[:, : min(5, len(self._labels))]
        values = np.take_along_axis(scores, best, axis=1)
        return [
            [
                {"label": self._labels[i], "score": score}
                for i, score in zip(indices, row, strict=True)
            ]
            for indices, row in zip(best.tolist(), values.tolist(), strict=True)
        ]

    def predict(self, jpegs: list[bytes]) -> list[Labels]:
        """Decode and classify a batch."""
        return self.classify(np.stack([self.decode(jpeg) for jpeg in jpegs]))
