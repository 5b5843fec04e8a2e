"""Which artifact of a bundle the service runs, as a client sees it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bundle.acceleration.accelerate import Accelerated
from bundle.format.manifest import MANIFEST_FILE, read_manifest
from tests.bundles import colour_picture, png
from tests.service.conftest import serving

RED = png(colour_picture("red", seed=7))


@pytest.fixture
def models(accelerated: Accelerated, tmp_path: Path) -> Path:
    """A repository whose `tiny-torch` was measured to be fastest in int8, in batches of 4."""
    path = tmp_path / "tiny-torch" / "1"
    shutil.copytree(accelerated.path, path)
    record = json.loads((path / MANIFEST_FILE).read_text())
    for artifact in record["artifacts"]:
        fastest = artifact["id"] == "openvino-int8"
        artifact["speeds"][0] |= {"images_per_second": 600.0 if fastest else 100.0, "batch_size": 4}
    (path / MANIFEST_FILE).write_text(json.dumps(record))
    return tmp_path


def test_auto_serves_the_fastest_and_says_why(models: Path) -> None:
    with serving(models_dir=models, runtime_threads=1) as server:
        answer = server.predict(RED).json()
        record = server.client.get("/models/tiny-torch").json()
        log = server.log()

    assert answer["predictions"][0]["label"] == "red"
    assert {
        name: answer["model"][name] for name in ("framework", "runtime", "precision", "device")
    } == {
        "framework": "pytorch",
        "runtime": "openvino",
        "precision": "int8",
        "device": "cpu",
    }
    assert record["artifact"] == "openvino-int8"
    assert record["choice"] == (
        "measured 6.0 times as fast as the source, with an accuracy of 100.00% against 100.00%"
    )
    assert record["accuracy"] == 1.0
    assert "openvino-int8 on cpu, in batches of up to 4; measured 6.0 times" in log


def test_a_setting_forces_an_artifact_and_a_bundle_without_it_is_refused_with_those_it_has(
    models: Path, torch_bundle_root: Path
) -> None:
    other = models / "other" / "1"
    shutil.copytree(torch_bundle_root / "tiny-torch" / "1", other)
    record = json.loads((other / MANIFEST_FILE).read_text()) | {"name": "other"}
    (other / MANIFEST_FILE).write_text(json.dumps(record))

    with serving(models_dir=models, runtime="openvino-fp32", default_model="tiny-torch") as server:
        answer = server.predict(RED).json()
        refused = server.predict(RED, model="other")
        record = server.client.get("/models/other").json()

    assert (answer["model"]["runtime"], answer["model"]["precision"]) == ("openvino", "fp32")
    assert refused.status_code == 503
    assert refused.json()["code"] == "model_refused"
    reason = (
        "SERVICE_RUNTIME names an artifact that the bundle does not have. "
        "Expected auto, source, or one of: torchscript-fp32. Received: 'openvino-fp32'"
    )
    assert (record["state"], record["reason"]) == ("refused", reason)
    assert f"{reason}. Fix that, or set SERVICE_RUNTIME and " in refused.json()["detail"]


def test_where_no_bundle_has_the_artifact_the_service_starts_and_says_which_setting_is_wrong(
    torch_bundle_root: Path,
) -> None:
    with serving(models_dir=torch_bundle_root, runtime="sauce", ready=False) as server:
        server.wait(
            lambda: server.client.get("/models").json()["models"][0]["state"] == "refused",
            "refused",
            60,
        )
        ready = server.client.get("/readyz")
        log = server.log()

    assert ready.status_code == 503
    for text in (ready.json()["detail"], log):
        assert "SERVICE_RUNTIME names an artifact that the bundle does not have" in text
        assert "'sauce'" in text


def test_compiled_models_are_cached_in_a_folder_and_a_later_start_from_it_gives_the_same_scores(
    models: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("kept") / "compiled"
    found = []
    for _ in range(2):
        with serving(models_dir=models, compiled_dir=folder) as server:
            scores = [answer["score"] for answer in server.predict(RED).json()["predictions"]]
        found.append((scores, {file: file.stat().st_mtime_ns for file in folder.rglob("*.blob")}))

    (first, blobs), (second, same) = found
    assert blobs, "the folder is used"
    assert {file.parent.name for file in blobs} == {read_manifest(models / "tiny-torch/1").digest}
    assert blobs == same
    assert first == second
