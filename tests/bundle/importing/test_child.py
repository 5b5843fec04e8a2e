"""Tests of what the child processes of an import share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from bundle.importing.options import Options

# Allocates what the machine has, in steps, as a hostile graph would; nothing of it is written to.
GREEDY = """
import mmap
from bundle.importing.child import serve_request

def read(kind, path, options, target):
    kept = [mmap.mmap(-1, 2**30) for _ in range(100_000)]

serve_request(read)
"""


def test_a_file_that_needs_more_memory_than_there_is_gets_an_error(tmp_path: Path) -> None:
    request = {
        "kind": "torchscript",
        "path": str(tmp_path),
        "options": asdict(Options()),
        "target": str(tmp_path),
        "parent": os.getpid(),
    }
    subprocess.run([sys.executable, "-c", GREEDY, json.dumps(request)], check=True, timeout=60)
    error = json.loads((tmp_path / "findings.json").read_text())["error"]
    assert "Cannot allocate memory" in error
