"""The options --test and --accelerate: figures in the record, and what would be better."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundle.format.manifest import Calibration, NoCalibration
from tests.bundle.importing.importing import imported
from tests.bundle.importing.onnx_files import write_colours, write_onnx
from tests.bundles import colour_picture, png
from tests.tiny_networks import LABELS

COLOURS = ("--labels", ",".join(LABELS), "--normalise", "0..1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """20 images of each colour, eight of them in the folder of the next one."""
    for number, label in enumerate(LABELS):
        for seed in range(20):
            of = LABELS[(number + (seed < 8)) % len(LABELS)]
            file = tmp_path / "test" / of / f"{label}{seed}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(png(colour_picture(label, seed=seed)))
    return tmp_path / "test"


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """ONNX, the format that is opened fastest."""
    write_colours(tmp_path / "network.onnx")
    return tmp_path / "network.onnx"


def test_accuracy_and_temperature_are_measured(network: Path, folder: Path, tmp_path: Path) -> None:
    _, manifest, output = imported(network, tmp_path / "models", *COLOURS, "--test", str(folder))

    assert "Accuracy: 60.00% on 60 images" in output
    assert manifest.metrics[0].value == pytest.approx(0.6)
    assert manifest.metrics[0].samples == 60
    assert isinstance(manifest.calibration, Calibration)
    assert manifest.calibration.samples == 30
    assert manifest.baseline is not None
    assert (manifest.baseline.split, manifest.baseline.samples) == ("test", 60)
    assert all(manifest.baseline.classes)


def test_few_images_fit_no_temperature(network: Path, folder: Path, tmp_path: Path) -> None:
    for file in list(folder.rglob("*[a-z][0-7].png")):
        file.unlink()

    _, manifest, output = imported(network, tmp_path / "models", *COLOURS, "--test", str(folder))

    assert "Not calibrated: a temperature is fitted on 20 validation images" in output
    assert isinstance(manifest.calibration, NoCalibration)


def test_an_accuracy_near_chance_comes_with_what_other_inputs_give(
    network: Path, folder: Path, tmp_path: Path
) -> None:
    labels = ",".join(reversed(LABELS))

    _, _, output = imported(
        *(network, tmp_path / "models", "--labels", labels),
        *("--normalise", "0..1", "--test", str(folder)),
    )

    assert "near chance" in output
    assert "with red and blue exchanged: 60.00%" in output
    assert "with --normalise imagenet: " in output


def test_an_import_can_be_accelerated_at_once(folder: Path, tmp_path: Path) -> None:
    write_onnx(tmp_path / "network")

    _, manifest, output = imported(
        *(tmp_path / "network", tmp_path / "models", "--labels", ",".join(LABELS)),
        *("--accelerate", "--calibration", str(folder)),
    )

    assert manifest.version == 1
    assert "openvino-int8" in [artifact.id for artifact in manifest.artifacts]
    assert manifest.artifact("openvino-fp32") == manifest.source
    assert "on cpu the service takes" in output
