"""Fixtures that every test folder shares: repositories that hold tiny real bundles (``tests/bundles.py``)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.bundles import make_keras_bundle, make_torch_bundle


@pytest.fixture(scope="session")
def torch_bundle_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that holds ``tiny-torch/1``. Tests do not change it; they copy."""
    root = tmp_path_factory.mktemp("torch-models")
    make_torch_bundle(root)
    return root


@pytest.fixture(scope="session")
def keras_bundle_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that holds ``tiny-keras/1``. Tests do not change it; they copy."""
    root = tmp_path_factory.mktemp("keras-models")
    make_keras_bundle(root)
    return root


@pytest.fixture(scope="session")
def both_root(
    torch_bundle_root: Path, keras_bundle_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A repository that holds ``tiny-torch/1`` and ``tiny-keras/1``. Tests do not change it; they copy."""
    root = tmp_path_factory.mktemp("models")
    for source in (torch_bundle_root, keras_bundle_root):
        shutil.copytree(source, root, dirs_exist_ok=True)
    return root
