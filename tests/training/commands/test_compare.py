"""`python -m training compare` as a user runs it, on tiny bundles that NumPy computes as well."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.special import softmax

from tests.bundles import TEMPERATURE
from tests.tiny_networks import GAIN, LABELS, RGB_CHANNEL
from tests.training.conftest import run_command, write_images
from training.__main__ import run
from training.data.load import load_folder
from training.data.splits import SplitOptions
from training.errors import ConfigError
from training.reports.compare import find_bundles
from training.reports.heldout import held_out

PER_CLASS = 30
SIZE = 32  # that of the tiny bundles, so there is no resizing


@dataclass
class Report:
    """A finished comparison: its output, its folder, its page and its tables."""

    done: subprocess.CompletedProcess[str]
    folder: Path
    page: str
    record: dict[str, Any]
    pixels: NDArray[np.uint8]  # [N, H, W, 3] of the test images, in the order of `labels`
    labels: NDArray[np.int64]  # [N]


@pytest.fixture(scope="module")
def report(both_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Both tiny bundles, a damaged one and one with other labels, on ambiguous images."""
    root = tmp_path_factory.mktemp("compare")
    models = root / "models"
    shutil.copytree(both_root, models)
    shutil.copytree(models / "tiny-torch", models / "broken")
    with (models / "broken" / "1" / "model.pt").open("ab") as file:
        file.write(b"damage")
    shutil.copytree(models / "tiny-torch", models / "german")
    manifest = models / "german" / "1" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"red"', '"rot"'))
    pixels, labels = write_greyish(root / "images" / "test")

    done = run_command(
        "compare",
        models,
        "--data",
        root / "images",
        "--out",
        root / "report",
        "--rounds",
        "2",
        "--threads",
        "1",
    )

    assert done.returncode == 0, done.stdout + done.stderr
    folder = root / "report" / "compare"
    record = json.loads((folder / "compare.json").read_text())
    return Report(done, folder, (folder / "index.html").read_text(), record, pixels, labels)


def write_greyish(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images with a little more of their class's colour; a third are confused."""
    generator = np.random.default_rng(5)
    pixels = []
    for name in LABELS:
        (folder / name).mkdir(parents=True)
        for i in range(PER_CLASS):
            colour = generator.normal(120, 30, 3)
            colour[RGB_CHANNEL[name]] += 25
            noisy = colour + generator.normal(0, 5, (SIZE, SIZE, 3))
            image = np.clip(noisy, 0, 255).astype(np.uint8)
            Image.fromarray(image).save(folder / name / f"{i:03}.png")
            pixels.append(image)
    return np.stack(pixels), np.repeat(np.arange(len(LABELS)), PER_CLASS)


def tiny_logits(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What the tiny nets compute, from their description in tests/bundles.py."""
    channels = pixels[..., [RGB_CHANNEL[name] for name in LABELS]] / 255
    excess = channels - (channels.sum(-1, keepdims=True) - channels) / 2
    logits: NDArray[np.float64] = GAIN * np.maximum(excess, 0).mean((1, 2))
    return logits


def calibration_error(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Guo et al. 2017, equation 3, bin by bin."""
    confidence, right = scores.max(1), scores.argmax(1) == labels
    error = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence >= low) & (confidence < low + 1 / 15)
        if inside.any():
            error += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    return error


def test_the_figures_are_those_of_an_independent_computation(report: Report) -> None:
    logits = tiny_logits(report.pixels)
    predicted = logits.argmax(1)
    expected = [
        [int(((report.labels == t) & (predicted == a)).sum()) for a in range(3)] for t in range(3)
    ]

    assert {model["id"] for model in report.record["models"]} == {"tiny-torch/1", "tiny-keras/1"}
    for model in report.record["models"]:
        matrix = np.array(model["confusion_matrix"])
        assert matrix.tolist() == expected
        assert (
            model["accuracy"]["value"]
            == matrix.trace() / matrix.sum()
            == (predicted == report.labels).mean()
        )
        assert 0.5 < model["accuracy"]["value"] < 0.95, "both right and wrong predictions"
        precision, recall = matrix.diagonal() / matrix.sum(0), matrix.diagonal() / matrix.sum(1)
        assert model["macro_f1"] == pytest.approx(
            (2 * precision * recall / (precision + recall)).mean()
        )
        calibration = model["calibration"]
        for name, temperature in (("served", TEMPERATURE), ("unscaled", 1.0)):
            scores = softmax(logits / temperature, axis=1)
            assert calibration[name]["expected_calibration_error"] == pytest.approx(
                calibration_error(scores, report.labels), abs=1e-4
            )
        assert calibration["temperature"] == TEMPERATURE
        assert model["parameters"] == 24
        assert model["artifact_bytes"] > 100


def test_the_same_net_in_two_frameworks_agrees_and_does_not_differ(report: Report) -> None:
    assert report.record["agreement"]["matrix"] == [[1, 1], [1, 1]]
    (difference,) = report.record["differences"]
    assert (difference["difference"], difference["p_value"]) == (0, 1)


def test_latencies_are_measured_in_each_runtime(report: Report) -> None:
    runtimes = [model["runtimes"][0] for model in report.record["models"]]

    assert {runtime["artifact"] for runtime in runtimes} == {"torchscript-fp32", "savedmodel-fp32"}
    for runtime in runtimes:
        assert 0 < runtime["latency"]["median_ms"] <= runtime["latency"]["p95_ms"]
        assert runtime["latency"]["images_per_second"] > 0
        assert runtime["latency"]["rounds"] == 2


def test_a_broken_bundle_is_listed_and_the_others_are_compared(report: Report) -> None:
    left_out = {Path(each["path"]).parent.name: each for each in report.record["left_out"]}

    assert left_out["broken"]["code"] == "integrity_failed"
    assert left_out["german"]["code"] == "labels_differ"
    assert "Missing: red; not in the data: rot" in left_out["german"]["reason"]
    for name in ("broken", "german"):
        assert f"{name}/1" in report.page
        assert f"{name}/1" in report.done.stdout
    assert "Traceback" not in report.done.stdout + report.done.stderr


def test_the_page_names_each_model_and_is_self_contained(report: Report) -> None:
    assert "tiny-torch/1" in report.page
    assert "tiny-keras/1" in report.page

    assert outside(report.page) == []
    assert "<script" not in report.page
    assert "{{" not in report.page
    files = {
        path.relative_to(report.folder).as_posix()
        for path in report.folder.rglob("*")
        if path.is_file()
    }
    assert {"index.html", "compare.json", "plots/accuracy.svg", "plots/confusion-1.svg"} <= files
    assert not list(report.folder.parent.glob(".*")), "no temporary folder is left"


def outside(page: str) -> list[str]:
    """References of the page to other resources."""
    found = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            for name, value in attributes:
                if name in ("src", "href", "xlink:href", "data", "action") and not (
                    value or ""
                ).startswith("#"):
                    found.append(f"{tag} {name}={value}")
                if "url(" in (value or "").replace("url(#", "") or tag == "link":
                    found.append(f"{tag} {name}={value}")

        def handle_data(self, data: str) -> None:
            if "@import" in data or "url(" in data.replace("url(#", ""):
                found.append(data)

    Reader().feed(page)
    return found


def test_a_folder_that_is_not_a_report_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "compare").mkdir()
    folder = str(tmp_path)
    monkeypatch.setattr(
        "sys.argv", ["training", "compare", folder, "--data", folder, "--out", folder]
    )

    with pytest.raises(SystemExit) as ended:
        run()

    assert ended.value.code == 1
    assert "is not a report" in capsys.readouterr().err
    assert (tmp_path / "compare").is_dir()


def test_training_images_of_a_drawn_split_are_not_tested_on(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "colours", 10)

    test = held_out(str(folder), seed=3, image_size=16, limit=None)
    whole = load_folder(folder, SplitOptions(image_size=16, seed=3))

    assert test.images == whole.test.files
    assert not set(test.images) & set(whole.train.files)
    assert (test.split_seed, len(test), test.available) == (3, 6, 6)


def test_a_path_without_a_bundle_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no bundle in"):
        find_bundles([tmp_path], all_versions=False)


def test_the_newest_version_of_each_model_is_compared_unless_all_are_requested(
    tmp_path: Path,
) -> None:
    for version in ("2", "10"):
        (tmp_path / "model" / version).mkdir(parents=True)
        (tmp_path / "model" / version / "manifest.json").touch()
    newest = tmp_path / "model" / "10"

    assert find_bundles([tmp_path, newest], all_versions=False) == ([newest], [])
    assert len(find_bundles([tmp_path], all_versions=True)[0]) == 2
