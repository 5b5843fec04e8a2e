"""What people say of an answer is kept in a file, if there is one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from service.analysis.feedback import Feedback, keep
from service.errors import FeedbackFull
from tests.service.api.test_problems import assert_problem
from tests.service.conftest import Server, serving
from tests.service.images import coloured

SAID: dict[str, Any] = {
    "request_id": "0b9f4a1cd2e34f56",
    "model": "tiny-torch",
    "version": 1,
    "predicted": "red",
    "right": False,
    "label": "grün\n",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("feedback")


@pytest.fixture(scope="module")
def keeping(quick_root: Path, folder: Path) -> Iterator[Server]:
    with serving(models_dir=quick_root, feedback_file=folder / "said.jsonl") as server:
        yield server


def kept(folder: Path) -> list[dict[str, Any]]:
    file = folder / "said.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_each_is_a_line_without_the_picture(keeping: Server, folder: Path) -> None:
    before = len(kept(folder))
    predicted = keeping.predict(coloured("red")).json()
    said = SAID | {"request_id": predicted["request_id"]}

    responses = [
        keeping.client.post("/feedback", json=each)
        for each in (said, {**said, "right": True, "label": None})
    ]

    assert [(each.status_code, each.content) for each in responses] == [(204, b"")] * 2
    first, second = kept(folder)[before:]
    assert first.pop("time").endswith("+00:00")
    assert first == {"client": None, **said}
    assert (second["right"], second["label"]) == (True, None)
    assert (folder / "said.jsonl").stat().st_mode & 0o777 == 0o600


def test_lines_that_arrive_at_once_do_not_mix(keeping: Server, folder: Path) -> None:
    before = len(kept(folder))

    def send(number: int) -> int:
        said = SAID | {"request_id": f"r{number}", "label": "x" * 200}
        return keeping.client.post("/feedback", json=said).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(send, range(40))) == {204}

    assert {each["request_id"] for each in kept(folder)[before:]} == {f"r{n}" for n in range(40)}


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"model": "nobody"}, 404, "unknown_model"),
        ({"version": 7}, 404, "unknown_version"),
        ({"version": "1"}, 400, "malformed_request"),
        ({"right": None}, 400, "malformed_request"),
        ({"label": "x" * 201}, 400, "malformed_request"),
        ({"request_id": "a b"}, 400, "malformed_request"),
        ({"picture": "abc"}, 400, "malformed_request"),
        ({"predicted": "x" * 5000}, 413, "request_too_large"),
    ],
)
def test_what_is_no_feedback_is_refused_and_not_kept(
    keeping: Server, folder: Path, change: dict[str, Any], status: int, code: str
) -> None:
    before = len(kept(folder))

    assert_problem(keeping.client.post("/feedback", json=SAID | change), status, code)

    assert len(kept(folder)) == before


def test_a_form_is_refused(keeping: Server) -> None:
    response = keeping.client.post("/feedback", data={"right": "true"})

    assert_problem(response, 415, "unsupported_media_type")


def test_without_the_setting_there_is_no_such_route(server: Server) -> None:
    assert_problem(server.client.post("/feedback", json=SAID), 404, "feedback_off")


@pytest.mark.anyio
async def test_the_file_does_not_grow_for_ever(tmp_path: Path) -> None:
    said = Feedback("r", "tiny-torch", 1, "red", right=True)
    file = tmp_path / "said.jsonl"

    await keep(file, said, "shop")
    size = file.stat().st_size
    await keep(file, said, "shop", 2 * size)
    with pytest.raises(FeedbackFull, match=f"has reached {2 * size} bytes"):
        await keep(file, said, "shop", 2 * size)

    assert file.stat().st_size == 2 * size
    assert [json.loads(line)["client"] for line in file.read_text().splitlines()] == ["shop"] * 2


@pytest.mark.anyio
async def test_a_file_that_can_not_be_written_is_said(tmp_path: Path) -> None:
    said = Feedback("r", "tiny-torch", 1, "red", right=True)

    with pytest.raises(FeedbackFull, match="can't be written"):
        await keep(tmp_path / "nowhere" / "said.jsonl", said, None)
