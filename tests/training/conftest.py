"""Generated images in class folders, and the training command run as a user runs it."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from tests.training.warm import Warm, WarmProcess

# Only the tests of acceleration make OpenVINO artifacts.
os.environ["TRAINING_ACCELERATE"] = "0"

FRAMEWORKS = ("torch", "keras")

Run = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., WarmProcess]
WarmOf = Callable[[str], Warm]

COMMAND = "from training.__main__ import run; run()"
SMALL = ("--image-size", "16", "--batch-size", "10", "--threads", "1")
EPOCHS = 6
COLOURS = {"blue": (40, 60, 200), "green": (50, 180, 70), "red": (210, 50, 40)}


def write_images(folder: Path, per_class: int, size: int = 16, seed: int = 0) -> Path:
    """PNG files of noisy colours, one class per colour: learnt within an epoch or two."""
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


def environment() -> dict[str, str]:
    return {**os.environ, "COLUMNS": "200"}


def run_command(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m training` with these arguments and environment variables to its end."""
    return subprocess.run(
        [sys.executable, "-m", "training", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment() | variables,
        timeout=500,
        check=False,
    )


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmOf]:
    """`warm("torch")` starts programs with the framework imported (tests/training/warm.py)."""
    # Keras reads this variable when it is imported: tests must not find cached weights.
    variables = environment() | {"KERAS_HOME": str(tmp_path_factory.mktemp("keras"))}
    with ExitStack() as stack:

        @functools.cache
        def server(framework: str) -> Warm:
            modules = (
                "training.__main__",
                "training.export.export",
                f"training.{framework}.backend",
            )
            return stack.enter_context(Warm(modules, variables))

        yield server


@pytest.fixture(scope="session")
def start(warm: WarmOf) -> Start:
    """`start(*arguments)` starts `python -m training` with its framework imported."""

    def start(*arguments: str | Path, **options: Any) -> WarmProcess:
        framework = "keras" if "keras" in arguments else "torch"
        return warm(framework).start(COMMAND, *arguments, **options)

    return start


@pytest.fixture(scope="session")
def train(start: Start) -> Run:
    """`train(*arguments)` runs `python -m training train` with its framework imported."""
    return lambda *arguments, **options: start("train", *arguments, **options).end()


class Whole(NamedTuple):
    """A run that was killed after an epoch or more and resumed, and the same run uninterrupted."""

    options: tuple[str | Path, ...]  # of its command, without `--run`
    folder: Path  # of the run
    killed_after: int  # epochs
    resumed: subprocess.CompletedProcess[str]
    uninterrupted: Path  # folder of the uninterrupted run, which was killed after its last epoch
    bundle: Path


@pytest.fixture(scope="session")
def wholes(
    warm: WarmOf, start: Start, colour_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, Future[Whole]]]:
    """A run in each framework, concurrently; both bundles in one repository."""
    root = tmp_path_factory.mktemp("trained")

    def whole(framework: str) -> Whole:
        name, folder = f"colours-{framework}", root / framework
        uninterrupted = root / f"{framework}-at-once"
        options: tuple[str | Path, ...] = ("--framework", framework, "--data", colour_folder)
        options = (*options, "--out", root / "models", "--name", name)
        options = (*options, *SMALL, "--epochs", str(EPOCHS))
        kill_after(EPOCHS, start("train", *options, "--run", uninterrupted), uninterrupted)
        killed_after = kill_after(1, start("train", *options, "--run", folder), folder)
        resumed = run_command("train", *options, "--run", folder)
        assert resumed.returncode == 0, resumed.stdout + resumed.stderr
        return Whole(
            options, folder, killed_after, resumed, uninterrupted, root / "models" / name / "1"
        )

    for framework in FRAMEWORKS:
        warm(framework)
    with ThreadPoolExecutor(len(FRAMEWORKS)) as pool:
        yield {framework: pool.submit(whole, framework) for framework in FRAMEWORKS}


@pytest.fixture(scope="session", params=["torch", "keras"])
def whole(request: pytest.FixtureRequest, wholes: Mapping[str, Future[Whole]]) -> Whole:
    """A run in each framework."""
    return wholes[request.param].result()


def kill_after(epochs: int, process: WarmProcess, folder: Path) -> int:
    """Kill `process` after so many epochs or a few more; returns how many are recorded."""
    wait_for_epochs(epochs, folder)
    os.kill(process.pid, signal.SIGKILL)
    process.end()
    return len(history(folder))


def wait_for_epochs(epochs: int, folder: Path) -> None:
    deadline = time.monotonic() + 240
    while len(history(folder)) < epochs:
        assert time.monotonic() < deadline, f"no epoch {epochs} in {folder}"
        time.sleep(0.02)


def history(folder: Path) -> list[dict[str, float]]:
    """The epochs in the record of a run, which may not exist yet."""
    record = folder / "run.json"
    epochs: list[dict[str, float]] = (
        json.loads(record.read_text())["history"] if record.exists() else []
    )
    return epochs
