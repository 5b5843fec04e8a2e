"""The end of a training run, where the bundle gets its OpenVINO artifacts."""

from __future__ import annotations

from pathlib import Path

from bundle.choice import accuracy
from bundle.manifest import read_manifest
from tests.training.conftest import SMALL, Run


def test_a_trained_model_comes_with_artifacts_that_are_measured_on_the_test_split(
    train: Run, colour_folder: Path, tmp_path: Path
) -> None:
    options = ("--data", colour_folder, "--out", tmp_path / "models", "--run", tmp_path / "run", *SMALL)

    done = train(*options, "--epochs", "1", "--name", "colours", "--accelerate")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "A service on a CPU takes " in done.stdout
    assert list((tmp_path / "models" / "colours").iterdir()) == [tmp_path / "models" / "colours" / "1"]
    manifest = read_manifest(tmp_path / "models" / "colours" / "1")
    artifacts = {artifact.id: artifact for artifact in manifest.artifacts}
    assert {"torchscript-fp32", "openvino-fp32", "openvino-int8"} <= set(artifacts)
    assert all(accuracy(manifest, artifact) is not None for artifact in artifacts.values())
    int8 = artifacts["openvino-int8"].derivation
    assert int8 is not None
    assert (int8.calibration_samples, int8.compared_samples) == (
        117,
        30,
    )  # all training images; the test split
