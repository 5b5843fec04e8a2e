"""The bundle that a training run ends with, and its faster artifacts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bundle.acceleration.accelerate import write_version
from bundle.format.manifest import MANIFEST_FILE, read_manifest
from bundle.worker.selection import accuracy
from tests.service.conftest import serving
from tests.training.conftest import SMALL, Start

FASTEST = "openvino-fp32"


@pytest.fixture(scope="module")
def bundle(start: Start, colour_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a run with every artifact."""
    root = tmp_path_factory.mktemp("accelerated")
    options = ("--data", colour_folder, "--out", root / "models", "--run", root / "run", *SMALL)

    done = start("train", *options, "--epochs", "1", "--name", "colours", "--accelerate").end()

    assert done.returncode == 0, done.stdout + done.stderr
    assert "A service on a CPU takes " in done.stdout
    made = read_manifest(root / "models" / "colours" / "1").artifacts
    assert f"Artifacts: {', '.join(artifact.id for artifact in made)}\n" in done.stdout
    assert list((root / "models" / "colours").iterdir()) == [root / "models" / "colours" / "1"]
    return root / "models" / "colours" / "1"


def test_a_trained_model_comes_with_artifacts_that_are_measured_on_the_test_split(
    bundle: Path,
) -> None:
    manifest = read_manifest(bundle)
    artifacts = {artifact.id: artifact for artifact in manifest.artifacts}
    assert {"torchscript-fp32", "openvino-fp32", "openvino-int8"} <= set(artifacts)
    assert all(accuracy(manifest, artifact) is not None for artifact in artifacts.values())
    int8 = artifacts["openvino-int8"].derivation
    assert int8 is not None
    # All training images; the test split.
    assert (int8.calibration_samples, int8.compared_samples) == (108, 30)


def test_the_service_passes_over_a_fast_artifact_that_does_not_load_and_says_why(
    bundle: Path, colour_folder: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy" / "1")
    (copy / "openvino" / "fp32.xml").write_text("not a network")
    record = json.loads((copy / MANIFEST_FILE).read_text())
    (artifact,) = (found for found in record["artifacts"] if found["id"] == FASTEST)
    artifact["speeds"][0]["images_per_second"] = 1e6
    (copy / MANIFEST_FILE).write_text(json.dumps(record))
    manifest = read_manifest(copy)
    write_version(copy, manifest, manifest, tmp_path / "models")
    image = (colour_folder / "test" / "red" / "000.png").read_bytes()

    with serving(models_dir=tmp_path / "models", device="cpu", runtime_threads=1) as server:
        model = server.client.get("/models/colours").json()
        response = server.predict(image).json()

    assert model["artifact"] != FASTEST
    assert f"{FASTEST} was passed over: The artifact '{FASTEST}' does not load" in model["choice"]
    assert response["predictions"][0]["label"] == "red"
