"""The end of a training run, where the bundle gets its faster artifacts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundle.acceleration import speed
from bundle.acceleration.accelerate import accelerate, republish
from bundle.errors import RuntimeUnavailable
from bundle.format.manifest import MANIFEST_FILE, Manifest, read_manifest
from bundle.machine import computes_in_bf16, cuda_devices
from bundle.worker.blocking import RuntimeProcess
from bundle.worker.selection import accuracy
from tests.service.conftest import Server, serving
from tests.training.conftest import SMALL, Start

COMPILED = "aotinductor-bf16"
TIMEOUT_S = 120.0

compiles = pytest.mark.skipif(
    not computes_in_bf16() or not shutil.which("g++") or cuda_devices() > 0,
    reason="without bf16 instructions or a C++ compiler nothing is compiled, and with CUDA it is another artifact",
)


@pytest.fixture(scope="module")
def bundle(start: Start, colour_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run ends with that asks for every artifact."""
    root = tmp_path_factory.mktemp("accelerated")
    options = ("--data", colour_folder, "--out", root / "models", "--run", root / "run", *SMALL)

    done = start(
        "train", *options, "--epochs", "1", "--name", "colours", "--accelerate", "--compile-ahead"
    ).end()

    assert done.returncode == 0, done.stdout + done.stderr
    assert "A service on a CPU takes " in done.stdout
    made = read_manifest(root / "models" / "colours" / "1").artifacts
    assert f"Artifacts: {', '.join(artifact.id for artifact in made)}\n" in done.stdout
    assert list((root / "models" / "colours").iterdir()) == [root / "models" / "colours" / "1"]
    return root / "models" / "colours" / "1"


def ids(manifest: Manifest) -> set[str]:
    return {artifact.id for artifact in manifest.artifacts}


def test_a_trained_model_comes_with_artifacts_that_are_measured_on_the_test_split(
    bundle: Path,
) -> None:
    manifest = read_manifest(bundle)
    artifacts = {artifact.id: artifact for artifact in manifest.artifacts}
    assert {"torchscript-fp32", "openvino-fp32", "openvino-int8"} <= set(artifacts)
    assert all(accuracy(manifest, artifact) is not None for artifact in artifacts.values())
    int8 = artifacts["openvino-int8"].derivation
    assert int8 is not None
    assert (int8.calibration_samples, int8.compared_samples) == (
        108,
        30,
    )  # all training images; the test split


@compiles
def test_the_compiled_network_answers_as_the_source_does(bundle: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
    index = np.arange(5, dtype=np.int64) % 3
    with (
        RuntimeProcess(bundle, threads=1) as source,
        RuntimeProcess(bundle, COMPILED, threads=2) as process,
    ):
        source.start(TIMEOUT_S)
        info = process.start(TIMEOUT_S)
        logits, heatmap = process.explain(pixels, index, TIMEOUT_S)
        alone = np.concatenate([process.infer(pixels[i : i + 1], TIMEOUT_S) for i in range(5)])
        expected, expected_heatmap = source.explain(pixels, index, TIMEOUT_S)

    assert (info["runtime"], info["precision"], info["device"]) == ("aotinductor", "bf16", "cpu")
    assert 0 < np.abs(logits - expected).max() < 0.2
    assert np.abs(heatmap - expected_heatmap).max() < 0.2
    np.testing.assert_allclose(alone, logits, atol=0.05)


PACKAGE = "aotinductor/bf16/data/aotinductor/model"


def say_otherwise(bundle: Path, key: str, value: str) -> None:
    """The metadata of its package get another value."""
    (metadata,) = bundle.glob(f"{PACKAGE}/*wrapper_metadata.json")
    metadata.write_text(json.dumps(json.loads(metadata.read_text()) | {key: value}))


def foreign(bundle: Path, root: Path, key: str, value: str) -> Path:
    """The bundle with a package whose metadata say otherwise."""
    copy = shutil.copytree(bundle, root / "copy" / "1")
    say_otherwise(copy, key, value)
    return republish(copy, root / "foreign")


@compiles
@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        (
            "instruction_sets",
            "sse avx9999",
            r"instruction_sets: avx9999\. Received: a processor without them",
        ),
        ("pytorch_release", "1.0", r"Expected pytorch_release: 1\.0"),
        ("AOTI_DEVICE_KEY", "cuda", "compiled for the device 'cuda'"),
    ],
)
def test_on_a_machine_of_another_kind_its_code_is_not_loaded(
    bundle: Path, tmp_path: Path, key: str, value: str, text: str
) -> None:
    with (
        RuntimeProcess(foreign(bundle, tmp_path, key, value), COMPILED) as process,
        pytest.raises(RuntimeUnavailable, match=text),
    ):
        process.start(TIMEOUT_S)


@compiles
def test_to_accelerate_again_keeps_what_was_compiled_where_it_runs_and_drops_it_elsewhere(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "TURN_S", 0.0)
    other = foreign(bundle, tmp_path, "instruction_sets", "avx9999")

    here = accelerate(bundle, tmp_path / "here", calibration=None, test=None)
    elsewhere = accelerate(other, tmp_path / "elsewhere", calibration=None, test=None)

    assert ids(here.manifest) == ids(read_manifest(bundle)) - {"openvino-int8"}
    assert ids(elsewhere.manifest) == ids(here.manifest) - {COMPILED}
    assert not any(name.startswith("aotinductor/") for name in elsewhere.manifest.files)
    assert any(reason.startswith(f"{COMPILED} on a CPU: ") for reason in elsewhere.left_out)


def no_library(bundle: Path) -> None:
    (library,) = bundle.glob(f"{PACKAGE}/*.so")
    library.write_bytes(b"not a library")


def crashing_library(bundle: Path) -> None:
    """The loader maps a file that ends after its first page, and the kernel ends the process that reads on."""
    (library,) = bundle.glob(f"{PACKAGE}/*.so")
    library.write_bytes(library.read_bytes()[:4096])


def with_fast_package(bundle: Path, models: Path, damage: Callable[[Path], None]) -> None:
    """The next version in `models`: the damaged bundle, in whose record the package is the fastest by far."""
    copy = models.parent / "copy"
    shutil.copytree(bundle, copy)
    damage(copy)
    record = json.loads((copy / MANIFEST_FILE).read_text())
    (package,) = (artifact for artifact in record["artifacts"] if artifact["id"] == COMPILED)
    package["speeds"][0]["images_per_second"] = 1e6
    (copy / MANIFEST_FILE).write_text(json.dumps(record))
    republish(copy, models)
    shutil.rmtree(copy)


def version(server: Server, number: int) -> dict[str, Any]:
    found: dict[str, Any] = server.client.get("/models/colours", params={"version": number}).json()
    return found


@compiles
def test_the_service_takes_the_next_artifact_where_the_compiled_one_can_not_be_used_and_says_why(
    bundle: Path, colour_folder: Path, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    damages = [
        lambda _: None,
        lambda copy: say_otherwise(copy, "instruction_sets", "sse avx9999"),
        no_library,
    ]
    for damage in damages:
        with_fast_package(bundle, models, damage)
    picture = (colour_folder / "test" / "red" / "000.png").read_bytes()

    with serving(models_dir=models, device="cpu", runtime_threads=1) as server:
        whole, elsewhere, broken = (version(server, number) for number in (1, 2, 3))
        answers = [server.predict(picture, version=number).json() for number in (1, 2, 3)]

    assert whole["artifact"] == COMPILED
    assert elsewhere["artifact"] == broken["artifact"] != COMPILED
    passed_over = f"{COMPILED} was passed over: The artifact"
    assert f"{passed_over} is compiled for machines of another kind" in elsewhere["choice"]
    assert f"{passed_over} '{COMPILED}' does not load" in broken["choice"]
    assert {answer["predictions"][0]["label"] for answer in answers} == {"red"}


@compiles
def test_where_the_compiled_code_crashes_the_model_is_refused_and_served_without_it_as_the_refusal_says(
    bundle: Path, colour_folder: Path, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    with_fast_package(bundle, models, crashing_library)
    picture = (colour_folder / "test" / "red" / "000.png").read_bytes()

    with serving(models_dir=models, device="cpu", runtime_threads=1, ready=False) as server:
        server.wait(lambda: version(server, 1)["state"] == "refused", "refused", 120)
        refused = server.predict(picture).json()
    with serving(models_dir=models, device="cpu", runtime_threads=1, runtime="source") as server:
        answer = server.predict(picture).json()

    assert "(worker_died)" in refused["detail"]
    assert "or set SERVICE_RUNTIME to source, and restart the service." in refused["detail"]
    assert answer["predictions"][0]["label"] == "red"
