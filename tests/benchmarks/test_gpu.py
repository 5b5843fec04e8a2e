"""The comparison of the service on a GPU with the CPU, which stands in for the GPU here."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from benchmarks import gpu
from benchmarks.models import Model
from benchmarks.ours import serving
from tests.bundles import colour_picture
from tests.tiny_networks import LABELS

TABLES = {"agreement": "| equal |", "speed": "| fast |"}


def part(page: str, name: str) -> str:
    (found,) = re.findall(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", page, re.DOTALL)
    return str(found)


def test_without_a_gpu_it_says_so_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    app = typer.Typer()
    app.command()(gpu.main)

    result = CliRunner().invoke(app, [])

    assert result.exit_code == 1
    assert result.stderr == (
        "There is no CUDA device. Expected an NVIDIA GPU with its driver, or --device cpu to try "
        "the program. Received: --device cuda\n"
    )


def test_photos_are_parts_of_the_samples_or_those_of_a_folder(tmp_path: Path) -> None:
    drawn = [*gpu.files(None, 9)]
    (tmp_path / "a").mkdir()
    for name in ("b.JPG", "a/c.jpeg", "a/d.txt"):
        (tmp_path / name).write_bytes(drawn[0])

    assert len(set(drawn)) == 9
    assert drawn == [*gpu.files(None, 9)]
    assert all(min(Image.open(io.BytesIO(photo)).size) > 100 for photo in drawn)
    assert [*gpu.files(tmp_path, 5)] == [drawn[0], drawn[0]]


def test_answers_agree_by_their_best_class_and_differ_by_their_scores() -> None:
    expected = [{"cat": 0.6, "dog": 0.4}, {"dog": 0.9, "cat": 0.1}]
    received = [{"cat": 0.59, "fox": 0.41}, {"cat": 0.5, "dog": 0.5}]

    assert gpu.equal(expected, expected) == 1
    assert gpu.equal(expected, received) == 0.5
    assert gpu.difference(expected, received) == pytest.approx(0.4)


def test_an_artifact_is_compared_and_loaded_end_to_end(
    torch_bundle_root: Path, tmp_path: Path
) -> None:
    photos = []
    for number, label in enumerate(LABELS):
        photos.append(tmp_path / f"{number}.jpg")
        Image.fromarray(colour_picture(label, (64, 64), seed=number)).save(photos[-1], quality=95)
    model = Model("tiny", torch_bundle_root, "tiny-torch", 1, tuple(photos), 1)

    with serving(model, "source", shipped=True, device="cpu") as service:
        answers = gpu.answers(service, [photo.read_bytes() for photo in photos])
        load = gpu.load(service, model, 4, 0.3)

    assert [next(iter(answer)) for answer in answers] == list(LABELS)
    assert load["rate"] > 0
    assert 0 < load["p50"] <= load["p99"]
    assert load["refused"] == 0
    assert 1 <= load["batch"] <= 4
    assert 0 < load["decoding"] < 1
    row = gpu.speed([gpu.Found("torchscript-fp32", "the source", answers, {4: load})])
    assert row.splitlines()[-1].startswith("| torchscript-fp32 | 4 | ")
    row = gpu.agreement(answers, [gpu.Found("torchscript-fp32", "the source", answers, {4: load})])
    assert row.splitlines()[-1] == "| torchscript-fp32 | 3 | 100.0% | 0.0e+00 | the source |"


def test_the_page_gets_the_tables_of_a_device_and_of_cuda_another_first_line() -> None:
    page = gpu.PAGE.read_text()

    by_cpu = gpu.written(page, "cpu", "Xeon", TABLES)
    by_gpu = gpu.written(by_cpu, "cuda", "H100", TABLES)

    assert part(by_cpu, "first line") == part(page, "first line")
    assert part(by_cpu, "cpu hardware") == part(by_gpu, "cpu hardware") == "Measured on: Xeon."
    assert part(by_gpu, "cuda hardware") == "Measured on: H100."
    assert part(by_gpu, "cuda speed") == TABLES["speed"]
    assert part(by_gpu, "first line") == "Run on one GPU: H100 ([the figures](#on-cuda))."
    with pytest.raises(ValueError, match="has 0 parts 'cuda speed'"):
        gpu.written(page.replace("<!-- cuda speed -->", ""), "cuda", "H100", TABLES)


def test_the_page_says_first_that_it_never_ran_on_a_gpu_until_it_has_figures() -> None:
    page = gpu.PAGE.read_text()

    never = part(page, "first line").startswith("Nothing on this page was ever run on a GPU")
    assert never == (part(page, "cuda hardware") == "Not measured.")
