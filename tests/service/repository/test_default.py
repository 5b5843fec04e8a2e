"""The model for requests that name none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.service.api.test_problems import assert_problem
from tests.service.conftest import serving
from tests.service.images import coloured
from tests.service.repository.test_refusals import flip_a_byte
from tests.service.repository.test_registry import copy


def test_the_default_model_is_the_one_that_the_repository_names(
    quick_root: Path, tmp_path: Path
) -> None:
    for name in ("experiment", "mine"):
        copy(quick_root, tmp_path, name)
    (tmp_path / "default").write_text("mine\n")

    with serving(models_dir=tmp_path, runtime_threads=1) as server:
        answer = server.predict(coloured())
        listed = server.client.get("/models").json()

    assert answer.json()["model"]["name"] == "mine"
    assert listed["default"] == "mine"


def test_of_two_models_none_is_the_default_by_its_name(quick_root: Path, tmp_path: Path) -> None:
    for name in ("experiment", "mine"):
        copy(quick_root, tmp_path, name)

    with serving(models_dir=tmp_path, ready=False, runtime_threads=1) as server:
        server.wait(lambda: "no default model" in server.client.get("/readyz").text, "unready", 60)
        not_ready = server.client.get("/readyz")
        answer = server.predict(coloured())
        named = server.predict(coloured(), model="mine")

    for response in (not_ready, answer):
        assert_problem(response, 503, "not_ready")
        assert "SERVICE_DEFAULT_MODEL" in response.json()["detail"]
        assert "one of: experiment, mine" in response.json()["detail"]
    assert named.status_code == 200


@pytest.mark.parametrize(
    "content", [b"mine", b"\xff", b"gone"], ids=["refused", "not text", "missing"]
)
def test_no_other_model_answers_in_place_of_the_default_one(
    quick_root: Path, tmp_path: Path, content: bytes
) -> None:
    for name in ("experiment", "mine"):
        copy(quick_root, tmp_path, name)
    flip_a_byte(tmp_path / "mine" / "1")
    (tmp_path / "default").write_bytes(content)

    with serving(models_dir=tmp_path, ready=False, runtime_threads=1) as server:
        server.wait(lambda: "efault model" in server.client.get("/readyz").text, "unready", 60)
        answer = server.predict(coloured())
        named = server.predict(coloured(), model="experiment")

    assert_problem(answer, 503, "model_refused" if content == b"mine" else "not_ready")
    assert named.status_code == 200


def test_a_model_may_be_called_default(quick_root: Path, tmp_path: Path) -> None:
    copy(quick_root, tmp_path, "default")

    with serving(models_dir=tmp_path, runtime_threads=1) as server:
        assert server.predict(coloured()).json()["model"]["name"] == "default"
