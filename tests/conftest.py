"""Fixtures of every test folder: repositories of tiny real bundles (`tests/bundles.py`)."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from bundle.acceleration.accelerate import Accelerated, accelerate
from bundle.acceleration.measure import Acceleration, LabelledImages
from tests.bundles import colour_picture, make_keras_bundle, make_torch_bundle
from tests.tiny_networks import LABELS


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each file to one worker of pytest-xdist, so that its fixtures are made once.

    Tests of the long training runs share a worker too, whatever file they are in.
    """
    for item in items:
        runs = "wholes" in getattr(item, "fixturenames", ())
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group("training runs" if runs else item.path.name))


@pytest.fixture(scope="session")
def torch_bundle_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with `tiny-torch/1`. Tests do not change it; they copy."""
    root = tmp_path_factory.mktemp("torch-models")
    make_torch_bundle(root)
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
