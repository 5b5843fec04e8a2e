from __future__ import annotations

import subprocess
import sys

import bundle


def test_exported_members() -> None:
    assert [name for name in bundle.__all__ if not hasattr(bundle, name)] == []
    assert not hasattr(bundle, "no_such_name")


def test_importing_the_package_imports_no_library() -> None:
    program = "import sys, bundle; print({'numpy', 'pydantic', 'PIL'} & set(sys.modules))"
    command = [sys.executable, "-c", program]

    result = subprocess.run(command, capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "set()"
