"""The build of `.venv`: scripts/environment.py and requirements.lock."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_the_environment_refuses_a_python_that_is_too_old_or_too_new() -> None:
    for version in ((3, 10, 4), (3, 14, 0)):
        program = (
            f"import runpy, sys; sys.version_info = {version!r}; sys.argv = ['environment.py'];"
            "runpy.run_path('scripts/environment.py', run_name='__main__')"
        )
        result = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True
        )

        assert result.returncode == 1
        assert "this project needs Python 3.11 to 3.13" in result.stderr
        assert ".".join(map(str, version)) in result.stderr


def test_the_lock_pins_every_package_and_names_no_index() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()

    pins = [line for line in lines if line and not line.lstrip().startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9._-]*==[^ ]+", pin) for pin in pins)
    assert not [line for line in lines if "://" in line]
