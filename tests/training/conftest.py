"""Generated images in class folders, and the training command run as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

# Tests of other things do not wait for OpenVINO artifacts.
os.environ["TRAINING_ACCELERATE"] = "0"

MODULES = {"torch": "pytorch", "keras": "tensorflow"}

Run = Callable[..., subprocess.CompletedProcess[str]]

SMALL = ("--image-size", "16", "--batch-size", "10", "--threads", "1")
EPOCHS = 6
COLOURS = {"blue": (40, 60, 200), "green": (50, 180, 70), "red": (210, 50, 40)}


def write_images(folder: Path, per_class: int, size: int = 16, seed: int = 0) -> Path:
    """PNG files of noisy colours, one class a colour: learnt within an epoch or two."""
    generator = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(per_class):
            noise = generator.normal(0, 40, (size, size, 3))
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:03}.png")
    return folder


@pytest.fixture(scope="session")
def colour_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ and test/ with 40 and 10 images of each of three colours."""
    root = tmp_path_factory.mktemp("colours")
    write_images(root / "train", 40, seed=1)
    write_images(root / "test", 10, seed=2)
    return root


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "training", "train", *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "COLUMNS": "200"}


def run_command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `python -m training` with these arguments to its end."""
    return subprocess.run(
        [sys.executable, "-m", "training", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="session")
def train() -> Run:
    """`train(*arguments)` runs `python -m training train` to its end."""
    return partial(run_command, "train")


class Whole(NamedTuple):
    """A finished run: the folder that holds it, and the options of its command without `--run`."""

    root: Path
    options: tuple[str | Path, ...]


@pytest.fixture(scope="session", params=["torch", "keras"])
def whole(
    request: pytest.FixtureRequest, train: Run, colour_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Whole:
    """An uninterrupted run in each framework."""
    root = tmp_path_factory.mktemp(request.param)
    options = ("--framework", request.param, "--data", colour_folder, "--out", root / "models", *SMALL)
    options = (*options, "--epochs", str(EPOCHS), "--name", "colours")
    done = train(*options, "--run", root / "whole")
    assert done.returncode == 0, done.stdout + done.stderr
    return Whole(root, options)
