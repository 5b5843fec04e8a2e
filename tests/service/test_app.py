"""The application as a value."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from fastapi.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.service.test_problems import assert_problem


def test_a_crash_is_a_500_that_does_not_show_its_text(tmp_path: Path) -> None:
    app = create_app(Settings(models_dir=tmp_path))

    @app.get("/crash")
    def crash() -> None:
        raise RuntimeError("the secret of the house")

    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.get("/crash")

    assert_problem(answer, 500, "internal_error")
    assert "secret" not in answer.text


def test_importing_the_application_reads_nothing_and_loads_no_framework() -> None:
    code = "import service.app, sys; print([m for m in ('torch', 'tensorflow', 'keras') if m in sys.modules])"

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout.strip() == "[]"
