"""The command `classify` as a process, with a running service and with a bundle."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.conftest import Server, serving
from tests.service.images import COLOURS, coloured
from tests.sources import ROOT

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def server(both_root: Path) -> Iterator[Server]:
    with serving(models_dir=both_root) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One image of each colour in sub-folders, a hidden one, and a file that is none."""
    for colour in COLOURS:
        (tmp_path / colour).mkdir()
        (tmp_path / colour / "photo.png").write_bytes(coloured(colour))
    (tmp_path / ".hidden.png").write_bytes(coloured())
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "classify", *map(str, arguments)],
        cwd=ROOT,
        env={"PATH": "", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_every_image_below_a_folder_has_its_label_in_a_table(server: Server, folder: Path) -> None:
    done = run(folder, "--url", server.url)

    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    assert {row[0]: row[1] for row in rows} == {
        str(folder / colour / "photo.png"): colour for colour in COLOURS
    }
    assert done.stderr == ""


def test_json_is_an_array_with_an_error_in_the_place_of_an_answer(
    server: Server, folder: Path
) -> None:
    image = folder / "red" / "photo.png"
    done = run(
        *(image, folder / "notes.txt", folder / "gone.png", "--format", "json", "--top", 2),
        CLASSIFY_URL=server.url,
    )

    assert done.returncode == 1
    assert done.stderr == "2 of 3 files have no answer.\n"
    found, refused, missing = json.loads(done.stdout)
    assert found["file"] == str(image)
    assert found["model"] == "tiny-torch/1"
    assert [each["rank"] for each in found["predictions"]] == [1, 2]
    assert found["predictions"][0]["label"] == "red"
    assert refused["error"]["code"] == "unsupported_image_type"
    assert missing["error"]["code"] == "unreadable_file"


def test_csv_has_one_line_for_each_prediction(server: Server, folder: Path) -> None:
    done = run(
        *(folder / "red", folder / "notes.txt", "--url", server.url),
        *("--format", "csv", "--top", 2, "--model", "tiny-keras@1"),
    )

    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["rank"] for row in rows] == ["1", "2", ""]
    assert [row["model"] for row in rows[:2]] == ["tiny-keras/1"] * 2
    assert rows[2]["error"] == "unsupported_image_type"


def test_a_bundle_needs_no_service_and_gives_the_same_scores(
    server: Server, folder: Path, both_root: Path
) -> None:
    forms = "--format", "csv", "--top", 3
    local = run(folder, "--bundle", both_root / "tiny-torch" / "1", *forms)

    assert local.returncode == 0, local.stderr
    assert local.stdout == run(folder, "--url", server.url, *forms).stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--url", NOWHERE], f"No service answers at {NOWHERE} (ConnectionError)."),
        (["--model", "nobody"], "unknown_model: There is no model of this name."),
        (["--bundle", "nowhere"], "manifest_invalid: "),
        (["--bundle", "nowhere", "--model", "tiny-torch"], "--model is of a service."),
        (["--explain", "out.png"], "--explain is for one image. Received: "),
    ],
    ids=["no service", "no model", "no bundle", "both", "several"],
)
def test_what_no_file_can_survive_is_one_sentence(
    server: Server, folder: Path, arguments: list[str], said: str
) -> None:
    done = run(folder, *arguments, CLASSIFY_URL=server.url)

    assert done.returncode == 2
    assert done.stdout.strip() in ("", "[")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"Error: {said}")


def test_a_folder_without_images_is_said(tmp_path: Path) -> None:
    done = run(tmp_path)

    assert done.returncode == 2
    assert "There is no image in the folders" in done.stderr


def test_a_reader_that_stops_early_gets_no_traceback(server: Server, folder: Path) -> None:
    done = subprocess.run(
        [
            "sh",
            "-c",
            f"{sys.executable} -m classify {folder} --url {server.url} --format csv | true",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert done.stderr == ""
