from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bundle.format.card import read_card
from bundle.format.manifest import read_manifest
from tests.service.conftest import Server, serving
from tests.service.shipped import MODELS

NAME = "cifar10-resnet20-pytorch"


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    """A repository with one shipped bundle, which the test may change."""
    root = tmp_path / "models"
    shutil.copytree(MODELS / NAME, root / NAME)
    return root


def test_the_card_of_a_shipped_bundle_is_what_its_files_record(shipped: Path) -> None:
    with serving(models_dir=shipped) as server:
        found = server.client.get(f"/models/{NAME}/card").json()

    manifest, card = read_manifest(shipped / NAME / "1"), read_card(shipped / NAME / "1/card.json")
    assert (found["name"], found["version"]) == (NAME, 1)
    (evaluation,) = found["evaluations"]
    assert evaluation == card.evaluations[0].model_dump(mode="json")
    right = sum(count for true, predicted, count in evaluation["confusion"] if true == predicted)
    assert right == sum(each["correct"] for each in evaluation["per_class"])
    assert evaluation["accuracy"] == right / evaluation["samples"]
    assert manifest.rejection is not None
    assert manifest.conformal is not None
    assert found["rejection"] == manifest.rejection.model_dump(mode="json")
    assert found["conformal"] == manifest.conformal.model_dump(mode="json")
    int8 = next(each for each in found["artifacts"] if each["id"] == "openvino-int8")
    assert int8["bytes"] == sum(
        manifest.files[f"openvino/int8.{kind}"].size for kind in ("xml", "bin")
    )
    # Both are of the same images, on two machines.
    assert int8["accuracy"] == pytest.approx(evaluation["accuracy"], abs=0.005)
    low, high = int8["interval_95"]
    assert low < int8["accuracy"] < high
    (comparison,) = found["comparisons"]
    assert comparison["model"] == "cifar10-resnet20-keras@1"


def test_a_card_that_was_changed_since_the_model_was_loaded_is_not_shown(shipped: Path) -> None:
    # It looks at the repository once an hour only.
    with serving(models_dir=shipped, repository_poll_s=3600) as server:
        (shipped / NAME / "1/card.json").write_text("{}")
        response = server.client.get(f"/models/{NAME}/card")

    assert (response.status_code, response.json()["code"]) == (503, "model_unavailable")


def test_a_bundle_without_a_card_says_so(server: Server) -> None:
    response = server.client.get("/models/tiny-torch/card")

    assert (response.status_code, response.json()["code"]) == (404, "no_card")


def test_the_card_of_an_unknown_model_or_version_is_a_problem(server: Server) -> None:
    unknown = server.client.get("/models/nothing/card")
    version = server.client.get("/models/tiny-torch/card?version=9")

    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_model")
    assert (version.status_code, version.json()["code"]) == (404, "unknown_version")
