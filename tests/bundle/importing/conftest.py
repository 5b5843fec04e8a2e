"""Files of every kind, made once by a process for each framework."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sources import ROOT


@pytest.fixture(scope="session")
def torch_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made("make_torch", tmp_path_factory.mktemp("torch-files"))


@pytest.fixture(scope="session")
def keras_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made("make_keras", tmp_path_factory.mktemp("keras-files"))


def made(module: str, folder: Path) -> Path:
    done = subprocess.run(
        [sys.executable, "-m", f"tests.bundle.importing.{module}", str(folder)],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return folder
