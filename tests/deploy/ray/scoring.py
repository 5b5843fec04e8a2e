"""Runs of `python -m deploy.ray.score`, and what they have written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.sources import ROOT


def start(*options: object) -> subprocess.Popen[str]:
    """A run on this machine, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "deploy.ray.score", *map(str, options)],
        cwd=ROOT,
        # Ray's own default is 15, which never ends beside other work.
        env={**os.environ, "PYTHONPATH": str(ROOT), "RAY_worker_niceness": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def parts(out: Path) -> dict[str, tuple[int, int]]:
    """The files of an output by name: when each was written, and its inode."""
    stats = {path.name: path.stat() for path in out.glob("part-*.parquet")}
    return {name: (stat.st_mtime_ns, stat.st_ino) for name, stat in stats.items()}


def rows(out: Path) -> list[dict[str, Any]]:
    """The rows of an output, in the order of its shards."""
    files = sorted(out.glob("part-*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]
