"""What happens to a service during a soak run, each in a thread of its own."""

from __future__ import annotations

import contextlib
import itertools
import signal

import numpy as np
import psutil
import requests

from benchmarks.soak.clients import Soak
from benchmarks.soak.repository import OTHER, Repository

KEY = "the-key-of-the-soak-run"
VERSION_S, KILL_S, ROUTE_S = 6.0, 5.0, 9.0


def kill_processes(soak: Soak) -> None:
    """Kill a process of a model or a decoder, in turn."""
    draw = np.random.default_rng(0)
    for kind in itertools.cycle(("bundle.worker", "service.decoding")):
        if soak.stop.wait(KILL_S):
            return
        found = soak.service.running(kind)
        if found:
            with contextlib.suppress(psutil.NoSuchProcess):
                found[int(draw.integers(len(found)))].send_signal(signal.SIGKILL)
                soak.seen[f"killed: {kind}"] += 1


def change_versions(soak: Soak, repository: Repository) -> None:
    """Add version after version, every fifth of them broken."""
    for broken in itertools.cycle((False, False, False, False, True)):
        if soak.stop.wait(VERSION_S):
            return
        version = repository.add(broken=broken)
        wanted = "refused" if broken else "ready"
        if not soak.until(lambda v=version, w=wanted: soak.state(v) == w):  # type: ignore[misc]
            soak.wrong.append(f"version {version} is not {wanted} but {soak.state(version)}")
        soak.seen[f"version {wanted}"] += 1


def unload_and_load(soak: Soak) -> None:
    """Unload and load the other model."""
    base = soak.url.removesuffix("/predict")
    headers = {"Authorization": f"Bearer {KEY}"}
    for verb in itertools.cycle(("unload", "load")):
        if soak.stop.wait(ROUTE_S) and verb == "unload":
            return
        url = f"{base}/v2/repository/models/{OTHER}/{verb}"
        response = requests.post(url, headers=headers, timeout=120)
        soak.seen[f"{verb}: {response.status_code}"] += 1
        if response.status_code != 200:
            soak.wrong.append(f"{verb}: {response.text[:200]}")
