"""Tiny real bundles in both frameworks, for any test that needs one.

Each is made by a subprocess, so that the test process never loads torch and tensorflow together:

    make_torch_bundle(root, name="tiny-torch", labels=("blue", "green", "red"), size=32) -> folder
    make_keras_bundle(root, name="tiny-keras", ...)
    make_quick_bundle(root, name="tiny-torch", ..., batch_size=32)

The last one is the first with an OpenVINO IR, which `auto` serves. Its process starts in a third of
the CPU time, so it is for tests that are about no framework.

The network is one 1x1 convolution, global average pooling and one linear layer, with weights set
by hand: channel k is how much colour k exceeds the mean of the other two, so a mostly blue, green
or red image gets that label. It runs as a program too: `python -m tests.bundles torch|keras ROOT`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from bundle.format.certainty import NOT_MEASURED
from bundle.format.manifest import Input
from bundle.format.writer import BundleWriter
from bundle.imaging.decode import read_input
from bundle.scores import calibrated_softmax, top_k
from tests.tiny_networks import (
    LABELS,
    RGB_CHANNEL,
    export_keras,
    export_openvino,
    export_torch,
)

TEMPERATURE = 1.5


def make_torch_bundle(
    root: Path,
    name: str = "tiny-torch",
    labels: tuple[str, ...] = LABELS,
    size: int = 32,
    version: int | None = None,
) -> Path:
    """Write a TorchScript bundle below `root` and return its folder."""
    return _make("torch", root, name, labels, size, version)


def make_quick_bundle(
    root: Path,
    name: str = "tiny-torch",
    labels: tuple[str, ...] = LABELS,
    size: int = 32,
    version: int | None = None,
    batch_size: int = 32,
) -> Path:
    """Write a TorchScript bundle with an IR that `auto` serves, in batches of `batch_size`."""
    return _make("torch", root, name, labels, size, version, batch_size)


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
        "label_ids": None,
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
        "architecture": {"name": "tiny", "parameters": 24},
        "heatmap": {"method": "class_activation", "height": size, "width": size, "channels": 3},
        "imported": None,
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
                "labels": None,
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
        "baseline": {
            "split": "validation",
            "samples": 4,
            "scores": [0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 0, 0],
            "classes": [3, 1, *[0] * (len(labels) - 2)],
        },
        **NOT_MEASURED,
        "export": {"max_logit_difference": 0.0, "samples": 3},
        "golden": {"tolerance": 0.001, "samples": golden},
    }


def _with_openvino(source: dict[str, Any], batch_size: int) -> list[dict[str, Any]]:
    """The source artifact and the IR of the same network, twice as fast by its record."""
    speed = {"device": "cpu", "hardware": "any", "threads": 1, "latency_ms": 1.0}
    quick = {
        "id": "openvino-fp32",
        "format": "openvino",
        "path": "fp32.xml",
        "precision": "fp32",
        "source": False,
        "derivation": {
            "versions": {},
            "calibration_samples": 0,
            "compared_samples": 3,
            "max_logit_difference": 1e-6,
            "top1_agreement": 1.0,
            "golden_tolerance": 0.001,
        },
    }
    return [
        artifact | {"speeds": [speed | {"batch_size": batch_size, "images_per_second": rate}]}
        for artifact, rate in ((source, 1000.0), (quick, 2000.0))
    ]


def _make(
    framework: str,
    root: Path,
    name: str,
    labels: tuple[str, ...],
    size: int,
    version: int | None,
    batch_size: int | None = None,
) -> Path:
    request = {
        "root": str(root.resolve()),
        "name": name,
        "labels": labels,
        "size": size,
        "version": version,
        "batch_size": batch_size,
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


def _write(framework: str, request: dict[str, Any]) -> Path:
    labels, size = tuple(request["labels"]), request["size"]
    with BundleWriter(Path(request["root"]), request["name"], request["version"]) as writer:
        export = export_torch if framework == "torch" else export_keras
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
        fields = manifest_fields(framework, labels, size, golden)
        if request["batch_size"] is not None:
            export_openvino(writer.directory / "fp32.xml", labels, size)
            fields["artifacts"] = _with_openvino(fields["artifacts"][0], request["batch_size"])
        return writer.commit(fields)


if __name__ == "__main__":
    argument = sys.argv[2]
    defaults = {
        "root": argument,
        "name": f"tiny-{sys.argv[1]}",
        "labels": LABELS,
        "size": 32,
        "version": None,
        "batch_size": None,
    }
    request = json.loads(argument) if argument.startswith("{") else defaults
    print(_write(sys.argv[1], request))  # noqa: T201
