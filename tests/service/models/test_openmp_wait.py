"""SERVICE_OPENMP_WAIT reaches the process of a model."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tests.service.conftest import serving


def test_the_process_of_a_model_gets_the_wait_policy(
    torch_bundle_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)

    with serving(models_dir=torch_bundle_root, openmp_wait="active", runtime_threads=1) as server:
        (worker,) = server.worker_pids().values()

        assert psutil.Process(worker).environ()["OMP_WAIT_POLICY"] == "active"
