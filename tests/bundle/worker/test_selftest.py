"""The self-test: what it compares, and that it tells one network from another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from bundle.acceleration.accelerate import Accelerated, accelerate
from bundle.acceleration.measure import Acceleration, Pixels
from bundle.cli import app
from bundle.format.manifest import MANIFEST_FILE, GoldenSample, read_manifest
from bundle.format.writer import BundleWriter
from bundle.scores import calibrated_softmax
from bundle.worker.selftest import golden_differences
from tests.bundles import TEMPERATURE, colour_picture, make_torch_bundle
from tests.tiny_networks import LABELS

FLAT = 50.0  # a temperature at which every score of the tiny nets is about a third


def sample(scores: list[float]) -> GoldenSample:
    top = [{"index": i, "label": LABELS[i], "score": score} for i, score in enumerate(scores)]
    return GoldenSample.model_validate({"file": "golden/0.png", "top": top})


def changed(
    bundle: Path, models: Path, record: dict[str, object], files: Path | None = None
) -> Path:
    """A copy of a bundle with other fields, and with the OpenVINO files of another one."""
    with BundleWriter(models, "changed") as writer:
        shutil.copytree(bundle, writer.directory, dirs_exist_ok=True)
        (writer.directory / MANIFEST_FILE).unlink()
        if files is not None:
            shutil.copytree(files / "openvino", writer.directory / "openvino", dirs_exist_ok=True)
        fields = json.loads((bundle / MANIFEST_FILE).read_text()) | record
        return writer.commit(
            {name: value for name, value in fields.items() if name not in ("version", "name")}
        )


def flat(bundle: Path, models: Path) -> Path:
    """The bundle with the temperature FLAT and the scores that its network then has."""
    record = json.loads((bundle / MANIFEST_FILE).read_text())
    record["calibration"]["temperature"] = FLAT
    for golden in record["golden"]["samples"]:
        logits = TEMPERATURE * np.log([answer["score"] for answer in golden["top"]])
        for answer, score in zip(golden["top"], calibrated_softmax(logits, FLAT), strict=True):
            answer["score"] = float(score)
    return changed(bundle, models, {key: record[key] for key in ("calibration", "golden")})


def fast(bundle: Path, models: Path, images: Pixels | None = None) -> Accelerated:
    """The bundle with OpenVINO artifacts, those in int8 only with images for the calibration."""
    return accelerate(bundle, models, Acceleration(images, devices=("cpu",), turn_s=0))


@pytest.fixture(scope="module")
def flat_and_fast(torch_bundle_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Accelerated:
    """The tiny bundle at the temperature FLAT, accelerated."""
    root = tmp_path_factory.mktemp("flat")
    pixels = np.stack([colour_picture(LABELS[i % 3], (32, 32), seed=i) for i in range(20)])
    return fast(flat(torch_bundle_root / "tiny-torch" / "1", root / "plain"), root / "fast", pixels)


def test_another_networks_files_are_refused_although_a_high_temperature_makes_all_scores_alike(
    flat_and_fast: Accelerated, tmp_path: Path
) -> None:
    other = make_torch_bundle(tmp_path / "other", labels=tuple(reversed(LABELS)))
    foreign = fast(other, tmp_path / "fast").path
    good = flat_and_fast.path
    mixed = changed(good, tmp_path / "mixed", {}, files=foreign)

    checks = [
        CliRunner().invoke(app, ["check", str(each)], env={"COLUMNS": "300"})
        for each in (good, mixed)
    ]

    assert [check.exit_code for check in checks] == [0, 1], checks[0].output + checks[1].output
    assert (
        "golden_mismatch: At temperature 1, among the recorded classes, the model scores"
        in checks[1].output
    )
    assert "bundle accelerate" in checks[1].output, "the text has the remedy"
    scores = [
        answer.score for golden in read_manifest(good).golden.samples for answer in golden.top
    ]
    assert max(scores) - min(scores) < 0.02, "within the tolerance, whatever network it is"


def test_the_tolerance_of_an_artifact_comes_from_the_larger_of_both_differences(
    flat_and_fast: Accelerated,
) -> None:
    int8 = flat_and_fast.manifest.artifact("openvino-int8")

    assert int8 is not None
    assert int8.derivation is not None
    # Twice what its scores differ by at the temperature of the bundle, and 0.02, is 0.0203.
    assert int8.derivation.golden_tolerance > 0.022


def test_logits_are_compared_as_recorded_and_at_temperature_1() -> None:
    logits = np.array([3.0, 1.0, 0.0], np.float32)
    recorded = sample(calibrated_softmax(logits, 20.0).tolist())

    same = golden_differences(recorded, logits, 20.0)
    other = golden_differences(recorded, logits[::-1], 20.0)

    assert max(each.size for each in same) < 1e-6
    assert max(each.size for each in other if not each.at_one) < 0.1
    expected = np.abs(calibrated_softmax(logits, 1.0) - calibrated_softmax(logits[::-1], 1.0))
    assert [each.size for each in other if each.at_one] == pytest.approx(expected.tolist())


def test_of_few_recorded_classes_only_they_count_at_temperature_1() -> None:
    logits = np.array([3.0, 1.0, 0.0], np.float32)
    recorded = sample(calibrated_softmax(logits, 4.0).tolist()[:2])

    assert max(each.size for each in golden_differences(recorded, logits, 4.0)) < 1e-6


@pytest.mark.parametrize("scores", [[1.0, 0.0, 0.0], [0.6, 0.4, 0.0], [0.0, 0.0, 0.0]], ids=str)
def test_a_recorded_score_of_zero_gives_numbers(scores: list[float]) -> None:
    found = golden_differences(sample(scores), np.array([30.0, 20.0, -1000.0], np.float32), 0.05)

    assert np.isfinite([each.size for each in found]).all()
    # A score without a logit is compared as recorded, and not at temperature 1.
    assert [each.label for each in found if each.at_one] == list(LABELS[: np.count_nonzero(scores)])
