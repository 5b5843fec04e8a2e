"""SERVICE_OPENMP_WAIT reaches the process of a model."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest

from service.models.process import ModelProcess


def test_the_process_of_a_model_gets_the_wait_policy(
    torch_bundle_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)

    async def test() -> None:
        bundle = torch_bundle_root / "tiny-torch" / "1"
        process = ModelProcess(bundle, "source", "cpu", 1, None, "active")
        try:
            await process.start(120)
            assert psutil.Process(process.pid).environ()["OMP_WAIT_POLICY"] == "active"
        finally:
            await process.kill()

    asyncio.run(test())
