"""Fixtures of every test folder: repositories of tiny real bundles (`tests/bundles.py`)."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from xdist.scheduler import LoadFileScheduling

from bundle.acceleration.accelerate import Accelerated, accelerate
from bundle.acceleration.measure import Acceleration, LabelledImages
from tests.bundles import (
    colour_picture,
    make_keras_bundle,
    make_quick_bundle,
    make_torch_bundle,
)
from tests.tiny_networks import LABELS

# The files whose tests share the two long training runs of tests/training/conftest.py.
TRAINING_RUNS = {
    f"tests/training/{file}.py"
    for file in (
        "commands/test_compare",
        "commands/test_train",
        "test_served",
        "test_transfer",
        "test_twins",
    )
}
BROWSER = "tests/browser"  # its tests share a browser and the servers
# Long tests come first: at the end one worker would run them while the other one has nothing to do.
FIRST = (
    "tests/test_notebook.py",
    "tests/training",
    "tests/bundle/importing",
    "tests/bundle/acceleration",
)


class FileScheduling(LoadFileScheduling):  # type: ignore[misc]  # its base is untyped
    """Gives all tests of a file, or of a group, to one worker, so that its fixtures are made once.

    Not by `--dist loadgroup`: with pytest 9.2 it does not see the groups (pytest-xdist 3.8).
    """

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        if file.startswith(BROWSER):
            return BROWSER
        return "training runs" if file in TRAINING_RUNS else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> FileScheduling:
    """Schedule the tests of `-n` by file, in the order of their collection."""
    config.option.loadscopereorder = False
    return FileScheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort the long tests to the front."""
    for item in items:
        file = item.path.relative_to(config.rootpath).as_posix()
        if "wholes" in getattr(item, "fixturenames", ()) and file not in TRAINING_RUNS:
            raise pytest.UsageError(f"Add {file} to TRAINING_RUNS in tests/conftest.py.")
    items.sort(key=lambda item: not item.nodeid.startswith(FIRST))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the tests that change requests at random."""
    parser.addoption("--mutations", type=int, default=300, help="changed requests of each form")
    parser.addoption("--mutation-seed", type=int, default=7, help="of their random changes")


@pytest.fixture(scope="session")
def torch_bundle_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with `tiny-torch/1`. Tests do not change it; they copy."""
    root = tmp_path_factory.mktemp("torch-models")
    make_torch_bundle(root)
    return root


@pytest.fixture(scope="session")
def quick_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with `tiny-torch/1`, served in OpenVINO. Tests do not change it; they copy.

    On one thread, which makes it one stream on every machine, as in the frameworks.
    """
    root = tmp_path_factory.mktemp("quick-models")
    make_quick_bundle(root)
    (root / "serving.toml").write_text("[tiny-torch]\nruntime_threads = 1\n")
    return root


@pytest.fixture(scope="session")
def keras_bundle_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with `tiny-keras/1`. Tests do not change it; they copy."""
    root = tmp_path_factory.mktemp("keras-models")
    make_keras_bundle(root)
    return root


@pytest.fixture(scope="session")
def both_root(
    torch_bundle_root: Path, keras_bundle_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A repository with `tiny-torch/1` and `tiny-keras/1`. Tests do not change it; they copy."""
    root = tmp_path_factory.mktemp("models")
    for source in (torch_bundle_root, keras_bundle_root):
        shutil.copytree(source, root, dirs_exist_ok=True)
    (root / "default").write_text("tiny-torch\n")
    return root


@pytest.fixture(scope="session")
def accelerated(torch_bundle_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Accelerated:
    """`tiny-torch/1` with OpenVINO artifacts, in its own repository. Tests do not change it."""
    labels = np.arange(60) % len(LABELS)
    pixels = np.stack([colour_picture(LABELS[c], (32, 32), seed=i) for i, c in enumerate(labels)])
    options = Acceleration(
        pixels[:20],
        LabelledImages(pixels, labels),
        devices=("cpu",),  # the same artifacts on every machine
        turn_s=0,  # one call each: the order of such a small net is noise anyway
    )
    bundle = torch_bundle_root / "tiny-torch" / "1"
    return accelerate(bundle, tmp_path_factory.mktemp("accelerated"), options)
