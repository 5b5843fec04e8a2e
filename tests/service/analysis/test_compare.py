"""What several models say of one image."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.analysis.compare import jensen_shannon
from tests.bundles import make_quick_bundle
from tests.service.api.test_problems import assert_problem
from tests.service.conftest import Server, serving
from tests.service.images import coloured


@pytest.fixture(scope="module")
def three(both_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The tiny models, and one of other labels, another size and two versions."""
    root = tmp_path_factory.mktemp("three")
    shutil.copytree(both_root, root, dirs_exist_ok=True)
    make_quick_bundle(root, "two-labels", ("red", "blue"), 24)
    make_quick_bundle(root, "tiny-torch", ("red", "green", "blue"), 32, version=2)
    with serving(models_dir=root, versions="all") as server:
        yield server


def compare(server: Server, data: bytes, **query: Any) -> httpx.Response:
    return server.client.post("/compare", params=query, content=data)


def names(found: dict[str, Any]) -> list[str]:
    return [f"{each['model']['name']}@{each['model']['version']}" for each in found["results"]]


ALL = ["tiny-keras@1", "tiny-torch@1", "tiny-torch@2", "two-labels@1"]


def test_all_models_answer_as_each_does_alone(three: Server) -> None:
    data = coloured("green")

    response = compare(three, data)
    found = response.json()

    assert response.status_code == 200, response.text
    assert names(found) == ALL
    for result in found["results"]:
        model = result["model"]
        alone = three.predict(data, model=model["name"], version=model["version"]).json()
        assert result["model"] == alone["model"]
        assert result["seen"] == alone["seen"]
        assert [each["label"] for each in result["predictions"]] == [
            each["label"] for each in alone["predictions"]
        ]
        assert [each["score"] for each in result["predictions"]] == pytest.approx(
            [each["score"] for each in alone["predictions"]], abs=1e-6
        )
        assert found["image"] == alone["image"]
    agreement = found["agreement"]
    assert agreement["same_label"] is False, "one of them does not know green"
    assert agreement["labels"]["green"] == ALL[:3]
    assert not agreement["comparable"]
    # Labels in another order are the same; those of the fourth model are others.
    pairs = {tuple(each["models"]): each["jensen_shannon"] for each in found["divergences"]}
    assert set(pairs) == {(ALL[0], ALL[1]), (ALL[0], ALL[2]), (ALL[1], ALL[2])}
    assert max(pairs.values()) < 1e-6
    assert response.headers["server-timing"].startswith("decode;dur=")


def test_models_are_named_in_their_order(three: Server) -> None:
    chosen = "tiny-torch@2,tiny-keras,tiny-keras@1"

    found = compare(three, coloured("red"), models=chosen, top_k=2).json()

    assert names(found) == ["tiny-torch@2", "tiny-keras@1"], "each once"
    assert [len(each["predictions"]) for each in found["results"]] == [2, 2]
    assert found["agreement"] == {
        "same_label": True,
        "labels": {"red": ["tiny-torch@2", "tiny-keras@1"]},
        "comparable": True,
    }


def test_one_model_agrees_with_none(three: Server) -> None:
    found = compare(three, coloured("red"), models="two-labels").json()

    assert found["agreement"]["same_label"] is None
    assert found["divergences"] == []


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"models": "nobody"}, 404, "unknown_model"),
        ({"models": "tiny-torch@9"}, 404, "unknown_version"),
        ({"models": "tiny-torch,"}, 422, "invalid_parameter"),
        ({"models": "tiny-torch@x"}, 422, "invalid_parameter"),
        ({"top_k": 4}, 422, "invalid_parameter"),
        ({"model": "tiny-torch"}, 422, "unknown_parameter"),
    ],
)
def test_what_can_not_be_compared_is_refused(
    three: Server, query: dict[str, Any], status: int, code: str
) -> None:
    assert_problem(compare(three, coloured(), **query), status, code)


def test_a_bad_image_is_bad_for_all(three: Server) -> None:
    assert_problem(compare(three, b"text"), 415, "unsupported_image_type")


def test_a_model_that_fails_fails_none_of_the_others(both_root: Path, tmp_path: Path) -> None:
    root = shutil.copytree(both_root, tmp_path / "models")
    manifest = root / "tiny-keras" / "1" / "manifest.json"
    record = json.loads(manifest.read_text())
    record["golden"]["samples"][0]["top"][0]["score"] = 0.5
    manifest.write_text(json.dumps(record))
    with serving(models_dir=root) as server:
        found = compare(server, coloured("blue"), models="tiny-torch,tiny-keras").json()
        alone = compare(server, coloured("blue"), models="tiny-keras")
        every = compare(server, coloured("blue")).json()
        (worker,) = server.worker_pids().values()
        os.kill(worker, signal.SIGKILL)
        after_death = compare(server, coloured("blue"), models="tiny-torch").json()

    answer, failure = found["results"]
    assert answer["predictions"][0]["label"] == "blue"
    assert failure["model"] == {"name": "tiny-keras", "version": 1}
    assert failure["error"]["code"] == "model_refused"
    assert found["agreement"]["labels"] == {"blue": ["tiny-torch@1"]}
    assert_problem(alone, 503, "model_refused")
    assert names(every) == ["tiny-torch@1"], "by default those that serve"
    assert after_death["results"][0]["predictions"][0]["label"] == "blue"


def test_the_divergence_is_in_bits() -> None:
    one, other = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    half = np.array([0.5, 0.5])

    assert jensen_shannon(one, one) == 0
    assert jensen_shannon(one, other) == 1
    # The entropy of (3/4, 1/4), less the mean of those of both: 0 and 1.
    assert jensen_shannon(one, half) == pytest.approx(0.811278 - 0.5, abs=1e-6)
