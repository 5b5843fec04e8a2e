"""The rate of one service for the length of a turn."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.models import ROOT, Model

KEY = "benchmark-key-0123456789"
WARMUP_S = 1.0


def rate(url: str, model: Model, connections: int, seconds: float) -> float:
    """Requests/s that are answered at this address."""
    load = {
        "url": url,
        "bodies": [str(path) for path in model.images],
        "connections": connections,
        "seconds": seconds,
        "warmup_s": WARMUP_S,
        "headers": {"Content-Type": "image/jpeg", "X-API-Key": KEY},
    }
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load", json.dumps(load)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    found: float = json.loads(done.stdout)["requests_per_second"]
    return found
