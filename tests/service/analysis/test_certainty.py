from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest

from bundle.format.manifest import read_manifest
from tests.service.conftest import Server, serving
from tests.service.images import coloured
from tests.service.shipped import MODELS, SAMPLES, page_of_text

COFFEE = (SAMPLES / "coffee.jpg").read_bytes()
CIFAR = "cifar10-resnet20-pytorch"


@pytest.fixture(scope="module")
def shipped() -> Iterator[Server]:
    with serving(models_dir=MODELS) as server:
        yield server


def test_a_photo_of_a_known_class_is_certain_and_a_page_of_text_is_not(shipped: Server) -> None:
    photo, text = (shipped.predict(data).json() for data in (COFFEE, page_of_text()))

    assert photo["predictions"][0]["label"] == "espresso"
    assert (photo["uncertain"], photo["uncertain_reason"]) == (False, None)
    assert (text["uncertain"], text["uncertain_reason"]) == (True, "none_of_the_classes")


def test_a_batch_says_it_of_each_image(shipped: Server) -> None:
    files = [("files", ("photo", COFFEE)), ("files", ("text", page_of_text()))]
    results = shipped.client.post("/predict/batch?coverage=0.9", files=files).json()["results"]

    assert [each["uncertain"] for each in results] == [False, True]
    assert [each["filename"] for each in results] == ["photo", "text"]
    assert [each["prediction_set"]["coverage"] for each in results] == [0.9, 0.9]


@pytest.mark.parametrize(
    ("model", "sample"), [("imagenet-resnet50", "truck.png"), (CIFAR, "coffee.jpg")]
)
def test_the_set_of_labels_grows_with_the_coverage(
    shipped: Server, model: str, sample: str
) -> None:
    data = (SAMPLES / sample).read_bytes()
    sets = []
    conformal = read_manifest(MODELS / model / "1").conformal
    assert conformal is not None
    for coverage in ("0.5", "0.8", "0.95", "0.99"):
        found = shipped.predict(data, model=model, coverage=coverage).json()["prediction_set"]
        assert found["coverage"] == float(coverage)
        assert found["measured_coverage"] == pytest.approx(found["coverage"], abs=0.015)
        assert found["samples"] == conformal.samples
        sets.append([each["index"] for each in found["labels"]])

    assert all(larger[: len(smaller)] == smaller for smaller, larger in pairwise(sets))
    assert len(sets[0]) < len(sets[-1])


def test_the_set_has_the_labels_whose_scores_reach_the_threshold(shipped: Server) -> None:
    manifest = read_manifest(MODELS / CIFAR / "1")
    assert manifest.conformal is not None
    threshold = next(each.threshold for each in manifest.conformal.sets if each.coverage == 0.99)

    data = (SAMPLES / "cat.jpg").read_bytes()
    answer = shipped.predict(data, model=CIFAR, coverage=0.99, top_k=10).json()

    expected = [each for each in answer["predictions"] if each["score"] >= threshold]
    assert answer["prediction_set"]["labels"] == expected


@pytest.mark.parametrize("query", ["coverage=0.9", "coverage=0.90", "coverage=0.899"])
def test_the_fast_path_and_the_framework_give_the_same_set(shipped: Server, query: str) -> None:
    headers = {"Content-Type": "image/jpeg"}
    fast, usual = (
        shipped.client.post(f"/predict?{way}", content=COFFEE, headers=headers).json()
        for way in (query, f"{query}&")
    )

    assert list(fast) == list(usual)
    assert fast["prediction_set"]["coverage"] == usual["prediction_set"]["coverage"] == 0.9


@pytest.mark.parametrize("coverage", ["0.49", "0.991", "1", "-0.9", "many"])
def test_a_coverage_out_of_range_is_refused(shipped: Server, coverage: str) -> None:
    response = shipped.predict(COFFEE, coverage=coverage)

    assert response.status_code == 422
    assert response.json()["code"] == "invalid_parameter"
    assert "coverage" in response.json()["detail"]


def test_a_bundle_without_records_says_that_it_does_not_know(server: Server) -> None:
    answer = server.predict(coloured()).json()
    refused = server.predict(coloured(), coverage=0.9)

    assert (answer["uncertain"], answer["uncertain_reason"]) == (None, None)
    assert "prediction_set" not in answer
    assert (refused.status_code, refused.json()["code"]) == (422, "no_prediction_sets")
