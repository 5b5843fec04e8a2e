"""From a folder of images to a prediction over HTTP: training and service together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path

import httpx
import pytest

from tests.frontend.servers import serve_models
from tests.training.conftest import FRAMEWORKS, Whole


@pytest.fixture(scope="module")
def url(
    wholes: Mapping[str, Future[Whole]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The service over the repository that the training commands wrote."""
    models = {future.result().bundle.parents[1] for future in wholes.values()}
    with serve_models(models.pop(), tmp_path_factory.mktemp("logs")) as url:
        yield url


def test_a_model_whose_scores_are_not_calibrated_says_so_over_http(url: str) -> None:
    answer = httpx.get(f"{url}/models/colours-torch", timeout=30)

    assert answer.status_code == 200, answer.text
    assert answer.json()["calibration"] == {"method": "none", "temperature": 1.0}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_model_trained_on_a_folder_names_its_classes_over_http(
    framework: str, url: str, colour_folder: Path
) -> None:
    for label in ("blue", "green", "red"):
        image = colour_folder / "test" / label / "003.png"

        answer = httpx.post(
            f"{url}/predict?model=colours-{framework}",
            files={"file": image.read_bytes()},
            timeout=30,
        )

        assert answer.status_code == 200, answer.text
        predictions = answer.json()["predictions"]
        assert [p["rank"] for p in predictions] == [1, 2, 3]
        assert predictions[0]["label"] == label
        assert sum(p["score"] for p in predictions) == pytest.approx(1, abs=1e-3)
