"""`python -m training train` as a user runs it: bundles, resumption after a kill, errors without a traceback."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bundle.manifest import read_manifest
from tests.training.conftest import EPOCHS, SMALL, Run, Whole, command, environment, write_images


def test_one_command_trains_and_writes_a_bundle_that_passes_the_check(whole: Whole) -> None:
    bundle = whole.root / "models" / "colours" / "1"

    check = subprocess.run(
        [sys.executable, "-m", "bundle", "check", str(bundle)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert check.returncode == 0, check.stdout + check.stderr
    manifest = read_manifest(bundle)
    accuracy = manifest.metrics[0]
    assert accuracy.value > 0.9, "three colours are learnt in a few epochs"
    assert (accuracy.split, accuracy.samples) == ("test", 30)
    assert manifest.export.max_logit_difference < 1e-3
    assert manifest.training.config["batch_size"] == 10
    assert "test_accuracy" not in manifest.training.config["history"][-1], "test images are for the end"
    assert "--framework" in manifest.training.command
    assert list((whole.root / "whole").glob("events.out.tfevents.*"))


def test_a_killed_run_resumes_to_the_result_of_an_uninterrupted_one(whole: Whole, train: Run) -> None:
    record = whole.root / "killed" / "run.json"
    process = subprocess.Popen(
        command(*whole.options, "--run", whole.root / "killed"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
    )
    wait_for(record)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = len(json.loads(record.read_text())["history"])

    resumed = train(*whole.options, "--run", whole.root / "killed")

    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert f"after epoch {before} of {EPOCHS}" in resumed.stdout
    losses = [
        [epoch["loss"] for epoch in json.loads((whole.root / name / "run.json").read_text())["history"]]
        for name in ("whole", "killed")
    ]
    assert len(losses[1]) == EPOCHS
    # One thread and the same batches: what is left is the order of sums inside the kernels.
    assert np.allclose(losses[0], losses[1], rtol=0.02, atol=0.02)


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 240
    while not file.exists():
        assert time.monotonic() < deadline, f"{file} does not appear"
        time.sleep(0.02)


def test_the_modern_recipe_trains_on_mixed_images(train: Run, colour_folder: Path, tmp_path: Path) -> None:
    folders = ("--data", colour_folder, "--out", tmp_path, "--run", tmp_path / "run", "--name", "modern")

    done = train(*folders, "--recipe", "modern", "--precision", "fp32", "--epochs", "2", *SMALL)

    assert done.returncode == 0, done.stdout + done.stderr
    config = read_manifest(tmp_path / "modern" / "1").training.config
    assert (config["augment"], config["cutmix_alpha"], config["precision"]) == ("trivial", 1.0, "fp32")
    assert (config["ema_decay"], config["label_smoothing"]) == (0.999, 0.1)


def test_a_run_has_one_process_and_ctrl_c_says_how_to_go_on(
    train: Run, colour_folder: Path, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        command(
            "--data",
            colour_folder,
            "--out",
            tmp_path / "models",
            "--run",
            tmp_path / "run",
            "--epochs",
            "500",
            *SMALL,
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    wait_for(tmp_path / "run" / "run.json")
    second = train("--data", colour_folder, "--out", tmp_path / "models", "--run", tmp_path / "run", *SMALL)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)

    assert second.returncode == 1
    assert "Another process trains" in second.stderr
    assert process.returncode == 130
    assert "The same command goes on" in out
    assert "Traceback" not in out + err
    assert not (tmp_path / "models").exists() or not list((tmp_path / "models").iterdir())


def test_a_run_folder_of_another_configuration_is_not_overwritten(
    train: Run, colour_folder: Path, tmp_path: Path
) -> None:
    options = ("--data", colour_folder, "--out", tmp_path / "models", "--run", tmp_path / "run", *SMALL)
    assert train(*options, "--epochs", "1").returncode == 0

    done = train(*options, "--epochs", "1", "--seed", "7")

    assert done.returncode == 1
    assert "seed: 0 there, 7 here" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_full_disk_is_a_clear_error(colour_folder: Path, tmp_path: Path) -> None:
    def no_large_files() -> None:
        # A file-size limit fails a write as a full disk does, without filling one.
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    done = subprocess.run(
        command("--data", colour_folder, "--out", tmp_path / "models", "--run", tmp_path / "run", *SMALL),
        capture_output=True,
        text=True,
        env=environment(),
        preexec_fn=no_large_files,
        timeout=120,
        check=False,
    )

    assert done.returncode == 1
    assert "The checkpoint of epoch 1 can't be written" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--data", "nowhere"), "There is no folder 'nowhere'"),
        (("--data", "{data}", "--arch", "resnet21"), "resnet21"),
        (("--data", "{data}", "--framework", "jax"), "jax"),
        (("--data", "{data}", "--recipe", "best"), "best"),
        (("--data", "{data}", "--name", "Bad Name!"), "Bad Name!"),
        (("--data", "{data}", "--golden-images", "nowhere"), "There is no folder 'nowhere'"),
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
    options = (
        "--data",
        folder,
        "--out",
        tmp_path / "models",
        "--run",
        tmp_path / "run",
        *SMALL,
        "--epochs",
        "1",
    )

    refused = train(*options)
    skipped = train(*options, "--skip-unreadable")

    assert refused.returncode == 1
    assert "broken.jpg" in refused.stderr
    assert skipped.returncode == 0, skipped.stdout + skipped.stderr
    assert "Note: unreadable, left out" in skipped.stdout
    assert "broken.jpg" in skipped.stdout
