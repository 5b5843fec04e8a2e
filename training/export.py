"""From a trained network to a bundle: export, measure the artifact, record, publish."""

from __future__ import annotations

import importlib.metadata
import io
import platform
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bundle.image import read_input
from bundle.scores import calibrated_softmax, top_k
from bundle.writer import BundleWriter
from training.config import TrainConfig
from training.data import DataSet, input_geometry
from training.errors import StorageError, TrainingError
from training.evaluate import evaluate
from training.loop import Run, TrainerLike

GOLDEN_SAMPLES = 4
GOLDEN_TOLERANCE = 1e-3  # on scores: above the noise between processors, below any change that matters
GOLDEN_TOP = 5
COMPARED_SAMPLES = 500  # images on which framework and artifact are compared
MAX_LOGIT_DIFFERENCE = 1e-3  # in fp32


@dataclass(frozen=True)
class Exported:
    """A bundle that has been published, with the figures that the command line prints."""

    path: Path
    accuracy: float
    interval: tuple[float, float]
    calibration_error: tuple[float, float]  # before and after the temperature
    max_logit_difference: float


def export_bundle(
    trainer: TrainerLike,
    module: Any,
    config: TrainConfig,
    data: DataSet,
    run: Run,
    *,
    models: Path,
    name: str,
    command: str,
    golden_folder: Path | None = None,
) -> Exported:
    """Export `trainer`'s network into the next version of `models`/`name`.

    Args:
        module: the framework's training module, `training.pytorch` or `training.tensorflow`.
        golden_folder: images for the golden samples; without it they are taken from the test split.

    Raises:
        TrainingError: the artifact does not answer as the network did.
        StorageError: the bundle can't be written.
        BundleError: the artifact does not load.
    """
    golden = _golden_images(golden_folder, data)
    geometry = input_geometry(config.image_size)
    golden_pixels = np.stack([read_input(content, geometry).pixels for _, content in golden])
    golden_logits = trainer.predict(golden_pixels)
    compared = data.test.pixels[:COMPARED_SAMPLES]
    expected = trainer.predict(compared)
    record = _record(trainer, module, config, data, run, name, command)
    try:
        with tempfile.TemporaryDirectory(prefix="export-") as scratch:
            # The metrics in the manifest are measured through the artifact in its runtime, and that loads bundles
            # only: a first bundle, with no metrics and temperature 1, is measured; then the real one is written.
            draft = _write(
                trainer, Path(scratch), name, record, golden, golden_logits, data.classes, 1.0, None
            )
            measured = evaluate(draft, data.validation, data.test)
            difference = float(np.abs(measured.test_logits[: len(compared)] - expected).max())
            if not difference < MAX_LOGIT_DIFFERENCE:
                raise TrainingError(
                    f"The exported artifact does not answer as the network did: logits differ by {difference:.2g}. "
                    f"Expected less than {MAX_LOGIT_DIFFERENCE}."
                )
            record |= {
                "metrics": measured.metrics,
                "calibration": measured.calibration,
                "export": {"max_logit_difference": difference, "samples": len(compared)},
            }
            temperature = float(measured.calibration["temperature"])  # type: ignore[arg-type]
            path = _write(
                trainer, models, name, record, golden, golden_logits, data.classes, temperature, draft
            )
    except OSError as exc:
        raise StorageError(f"The bundle can't be written to {models / name}: {exc}.") from exc
    metric = measured.metrics[0]
    return Exported(
        path,
        metric["value"],  # type: ignore[arg-type]
        tuple(metric["interval_95"]),  # type: ignore[arg-type]
        (
            measured.calibration["expected_calibration_error_before"],  # type: ignore[arg-type]
            measured.calibration["expected_calibration_error_after"],
        ),
        difference,
    )


def _write(
    trainer: TrainerLike,
    models: Path,
    name: str,
    record: dict[str, Any],
    golden: list[tuple[str, bytes]],
    logits: NDArray[np.float32],
    labels: list[str],
    temperature: float,
    draft: Path | None,
) -> Path:
    """Write one version; the artifact comes from the network, or from the `draft` that was measured."""
    with BundleWriter(models, name) as writer:
        artifact = record["artifacts"][0]["path"]
        if draft is None:
            trainer.export(writer.directory)
        elif (draft / artifact).is_dir():
            shutil.copytree(draft / artifact, writer.directory / artifact)
        else:
            shutil.copyfile(draft / artifact, writer.directory / artifact)
        (writer.directory / "golden").mkdir()
        samples = []
        for (file, content), scores in zip(golden, calibrated_softmax(logits, temperature), strict=True):
            (writer.directory / "golden" / file).write_bytes(content)
            top = [
                {"index": answer["index"], "label": answer["label"], "score": answer["score"]}
                for answer in top_k(scores, labels, min(GOLDEN_TOP, len(labels)))
            ]
            samples.append({"file": f"golden/{file}", "top": top})
        return writer.commit(
            record
            | {
                "version": writer.version,
                "created": datetime.now(UTC),
                "golden": {"tolerance": GOLDEN_TOLERANCE, "samples": samples},
            }
        )


def _golden_images(folder: Path | None, data: DataSet) -> list[tuple[str, bytes]]:
    """File name and content of the golden samples: the given ones, or test images spread over the classes."""
    if folder is not None:
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() in (".png", ".jpg", ".jpeg"))
        if not files:
            raise TrainingError(
                f"Expected JPEG or PNG images for the golden samples. Found none in {folder}."
            )
        return [
            (f"{i}{file.suffix.lower()}", file.read_bytes()) for i, file in enumerate(files[:GOLDEN_SAMPLES])
        ]
    images = []
    for number, i in enumerate(np.linspace(0, len(data.test) - 1, GOLDEN_SAMPLES).round().astype(int)):
        content = io.BytesIO()
        Image.fromarray(data.test.pixels[i]).save(content, "PNG")
        images.append((f"{number}.png", content.getvalue()))
    return images


def _record(
    trainer: TrainerLike, module: Any, config: TrainConfig, data: DataSet, run: Run, name: str, command: str
) -> dict[str, Any]:
    """The manifest without what is measured, what the writer knows, and the golden samples."""
    mean, std = data.mean_and_std()
    side = (config.image_size + 3) // 4  # two convolutions of stride 2, each rounding up
    return {
        "schema_version": 1,
        "name": name,
        "description": f"{config.arch} trained on {data.name} with {config.framework}",
        "task": "image-classification",
        "labels": data.classes,
        "input": input_geometry(config.image_size).model_dump(),
        "artifacts": [module.ARTIFACT],
        "framework": {
            "name": "pytorch" if config.framework == "torch" else "tensorflow",
            "versions": {package: importlib.metadata.version(package) for package in module.PACKAGES},
        },
        "architecture": {
            "name": config.arch,
            "parameters": trainer.parameters,
            "feature_map": {"height": side, "width": side, "channels": 64},
        },
        "training": {
            "command": command,
            "dataset": data.name,
            "train_samples": len(data.train),
            "validation_samples": len(data.validation),
            "test_samples": len(data.test),
            "epochs": len(run.history),
            "seconds": run.seconds,
            "hardware": _hardware(),
            "seed": config.seed,
            "config": config.as_dict()
            | {
                "mean": [float(v) for v in mean],
                "std": [float(v) for v in std],
                "history": run.history,
            },
        },
        "metrics": [],
        "calibration": {
            "method": "temperature",
            "temperature": 1.0,
            "split": "validation",
            "samples": len(data.validation),
            "expected_calibration_error_before": 0.0,
            "expected_calibration_error_after": 0.0,
            "bins": 15,
        },
        "export": {"max_logit_difference": 0.0, "samples": 1},
    }


def _hardware() -> str:
    """The processor as the operating system names it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
