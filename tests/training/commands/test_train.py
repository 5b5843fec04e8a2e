"""`python -m training train`: bundles, resuming after a kill, errors without a traceback."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from bundle.cli import app
from bundle.format.manifest import Calibration, read_manifest
from tests.training.conftest import (
    COMMAND,
    EPOCHS,
    SMALL,
    Run,
    Start,
    WarmOf,
    Whole,
    history,
    wait_for_epochs,
    write_images,
)


def test_one_command_trains_and_writes_a_bundle_that_passes_the_check(whole: Whole) -> None:
    check = CliRunner().invoke(app, ["check", str(whole.bundle)])

    assert check.exit_code == 0, check.output
    manifest = read_manifest(whole.bundle)
    accuracy = manifest.metrics[0]
    assert accuracy.value > 0.9, "three colours are learnt in a few epochs"
    assert (accuracy.split, accuracy.samples) == ("test", 30)
    assert manifest.export.max_logit_difference < 1e-3
    assert manifest.trained.config["batch_size"] == 10
    epochs: Any = manifest.trained.config["history"]
    assert "test_accuracy" not in epochs[-1], "test images are for the end"
    assert "--framework" in manifest.trained.command
    assert list(whole.folder.glob("events.out.tfevents.*"))


def test_a_killed_run_resumes_to_the_result_of_an_uninterrupted_one(whole: Whole) -> None:
    losses = [
        [epoch["loss"] for epoch in history(run)] for run in (whole.uninterrupted, whole.folder)
    ]

    assert f"after epoch {whole.killed_after} of {EPOCHS}" in whole.resumed.stdout
    assert len(losses[1]) == EPOCHS
    # One thread and the same batches: only the order of sums inside the kernels differs.
    assert np.allclose(losses[0], losses[1], rtol=0.02, atol=0.02)


def test_too_few_images_leave_the_scores_uncalibrated_with_a_notice(whole: Whole) -> None:
    manifest = read_manifest(whole.bundle)

    assert manifest.calibration.method == "none"
    # A tenth of 120 training images: the maximum by default, and fewer than twenty.
    assert manifest.trained.config["validation_fraction"] == 0.1
    assert (manifest.trained.train_samples, manifest.trained.validation_samples) == (108, 12)
    assert "108 training and 12 validation images" in whole.resumed.stdout
    (line,) = (line for line in whole.resumed.stdout.splitlines() if "not calibrated" in line)
    assert "20 validation images or more, and there are 12" in line
    assert "`train --validation-fraction` (now 0.1)" in line
    assert re.search(r"calibration error 0\.\d{4} without scaling", whole.resumed.stdout)


def swap_labels(folder: Path, numbers: Iterable[int]) -> None:
    """Exchange the red and the green image of each number."""
    for i in numbers:
        red, green = folder / "red" / f"{i:03}.png", folder / "green" / f"{i:03}.png"
        red.rename(folder / "other.png")
        green.rename(red)
        (folder / "other.png").rename(green)


def test_a_requested_share_is_held_out_and_its_temperature_recorded(
    train: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    for split, count, seed in (("train", 40, 1), ("test", 20, 2)):
        # A quarter of the labels are wrong, in both splits alike: no model may be certain.
        swap_labels(write_images(folder / split, count, seed=seed), range(0, count, 4))
    places = ("--data", folder, "--out", tmp_path, "--run", tmp_path / "run")

    # In fp32 on every processor: 30 images decide whether the temperature is kept.
    options = ("--name", "noisy", "--epochs", "4", "--precision", "fp32")
    done = train(*places, *SMALL, *options, "--validation-fraction", "0.25")

    assert done.returncode == 0, done.stdout + done.stderr
    manifest = read_manifest(tmp_path / "noisy" / "1")
    assert manifest.trained.config["validation_fraction"] == 0.25
    assert isinstance(manifest.calibration, Calibration)
    assert 0.05 < manifest.calibration.temperature < 20
    assert manifest.calibration.samples == 30
    assert manifest.baseline is not None
    assert (manifest.baseline.split, manifest.baseline.samples) == ("validation", 30)
    assert "not calibrated" not in done.stdout
    error = manifest.calibration.expected_calibration_error_after
    assert f"before and {error:.4f} after scaling" in done.stdout


def test_the_modern_recipe_trains_on_mixed_images(
    train: Run, colour_folder: Path, tmp_path: Path
) -> None:
    places = ("--data", colour_folder, "--out", tmp_path, "--run", tmp_path / "run")
    options = ("--name", "modern", "--recipe", "modern", "--precision", "fp32", "--epochs", "2")

    done = train(*places, *options, *SMALL)

    assert done.returncode == 0, done.stdout + done.stderr
    config = read_manifest(tmp_path / "modern" / "1").trained.config
    assert (config["augment"], config["cutmix_alpha"], config["precision"]) == (
        "trivial",
        1.0,
        "fp32",
    )
    assert (config["ema_decay"], config["label_smoothing"]) == (0.999, 0.1)


def test_a_run_has_one_process_and_ctrl_c_tells_how_to_resume(
    start: Start, train: Run, colour_folder: Path, tmp_path: Path
) -> None:
    places = ("--data", colour_folder, "--out", tmp_path / "models", "--run", tmp_path / "run")
    options = (*places, *SMALL)

    process = start("train", *options, "--epochs", "500")
    wait_for_epochs(1, tmp_path / "run")
    second = train(*options)
    os.kill(process.pid, signal.SIGINT)
    first = process.end()

    assert second.returncode == 1
    assert "Another process trains" in second.stderr
    assert first.returncode == 130
    assert "The same command resumes" in first.stdout
    assert "Traceback" not in first.stdout + first.stderr
    assert not (tmp_path / "models").exists() or not list((tmp_path / "models").iterdir())


@pytest.mark.parametrize("whole", ["torch"], indirect=True)
def test_a_run_folder_of_another_configuration_is_not_overwritten(whole: Whole, train: Run) -> None:
    before = (whole.folder / "run.json").read_bytes()

    done = train(*whole.options, "--run", whole.folder, "--seed", "7")

    assert done.returncode == 1
    assert "seed: 0 there, 7 here" in done.stderr
    assert "Traceback" not in done.stderr
    assert (whole.folder / "run.json").read_bytes() == before
    assert (whole.folder / f"checkpoint-{EPOCHS}").is_file()


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (200_000, "The checkpoint of epoch 1 can't be written"),
        (1000, "The model repository can't be written to: File too large"),
    ],
    ids=["later", "at once"],
)
def test_a_full_disk_is_a_clear_error(
    limit: int, text: str, warm: WarmOf, colour_folder: Path, tmp_path: Path
) -> None:
    # A file-size limit fails a write as a full disk does, without filling one.
    limited = (
        f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); {COMMAND}"
    )
    places = ("--data", colour_folder, "--out", tmp_path / "models", "--run", tmp_path / "run")

    done = warm("torch").start(limited, "train", *places, *SMALL).end()

    assert done.returncode == 1
    assert text in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("option", ["--data", "--run", "--init", "--out"])
def test_a_link_to_itself_is_a_clear_error(
    option: str, train: Run, colour_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    places = {"--data": colour_folder, "--run": tmp_path / "run", "--out": tmp_path / "models"}
    places[option] = tmp_path / "loop"

    done = train(*(word for place in places.items() for word in place), *SMALL)

    assert done.returncode == 1
    assert f"'{tmp_path / 'loop'}'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("option", ["--run", "--out"])
def test_a_folder_that_cannot_be_written_to_is_refused_before_the_images_are_read(
    option: str, train: Run, tmp_path: Path
) -> None:
    folder = write_images(tmp_path / "photos", 4)
    (folder / "red" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    (tmp_path / "file").touch()
    places = {"--run": tmp_path / "run", "--out": tmp_path / "models"}
    places[option] = tmp_path / "file"

    done = train("--data", folder, *(word for place in places.items() for word in place), *SMALL)

    assert done.returncode == 1
    assert "can't be written to: it is a file" in done.stderr
    assert "broken.jpg" not in done.stderr


@pytest.mark.parametrize("whole", ["torch"], indirect=True)
def test_a_classifier_of_other_labels_is_dropped_with_a_note_and_a_rate_can_be_given(
    whole: Whole, train: Run, tmp_path: Path
) -> None:
    folder = write_images(tmp_path / "photos", 10)
    (folder / "red").rename(folder / "rouge")
    places = ("--data", folder, "--out", tmp_path, "--run", tmp_path / "run", "--name", "other")
    options = (*places, *SMALL, "--epochs", "1", "--init", whole.bundle)

    done = train(*options, "--learning-rate", "0.004")

    assert done.returncode == 0, done.stdout + done.stderr
    (note,) = (line for line in done.stdout.splitlines() if "is not used" in line)
    assert note.startswith(f"Note: the classifier of {whole.bundle} (3 classes)")
    assert "To keep it, start from a bundle" in note
    config: Any = read_manifest(tmp_path / "other" / "1").trained.config
    assert config["initial"]["classifier"] == "random"
    assert (config["optimizer"], config["learning_rate"]) == ("muon", 0.004)
    assert "muon trains the convolutions at its own rate, 0.02" in done.stdout


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--data", "nowhere"), "There is no folder 'nowhere'"),
        (("--data", "{data}", "--arch", "resnet21"), "resnet21"),
        (("--data", "{data}", "--framework", "jax"), "jax"),
        (("--data", "{data}", "--recipe", "best"), "best"),
        (("--data", "{data}", "--name", "Bad Name!"), "Bad Name!"),
        (("--data", "{data}", "--golden-images", "nowhere"), "There is no folder 'nowhere'"),
        (("--data", "{data}", "--validation-fraction", "1.5"), "Received: 1.5"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_option_is_an_error_without_a_traceback(
    options: tuple[str, ...], text: str, train: Run, colour_folder: Path, tmp_path: Path
) -> None:
    done = train(
        *(option.format(data=colour_folder) for option in options),
        "--out",
        tmp_path,
        "--run",
        tmp_path / "run",
    )

    assert done.returncode in (1, 2)
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unreadable_image_is_named(train: Run, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "photos", 8)
    (folder / "red" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    places = ("--data", folder, "--out", tmp_path / "models", "--run", tmp_path / "run")
    options = (*places, *SMALL, "--epochs", "1")

    refused = train(*options)
    skipped = train(*options, "--skip-unreadable")

    assert refused.returncode == 1
    assert "broken.jpg" in refused.stderr
    assert skipped.returncode == 0, skipped.stdout + skipped.stderr
    assert "Note: unreadable, left out" in skipped.stdout
    assert "broken.jpg" in skipped.stdout
    assert "Notice: there are fewer than 5 test images of 3 of 3 classes" in skipped.stdout
    assert "Received: blue 2, green 2, red 2" in skipped.stdout
    assert "points wide: 6 test images are too few" in skipped.stdout
