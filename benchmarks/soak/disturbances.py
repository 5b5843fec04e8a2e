"""What happens to a service during a soak run, each in a thread of its own."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import secrets
import signal
import time
from pathlib import Path

import numpy as np
import psutil
import requests

from benchmarks.soak.clients import Soak
from benchmarks.soak.repository import OTHER, Repository

KEY = "the-key-of-the-soak-run"
VERSION_S, KILL_S, ROUTE_S, ROTATE_S = 6.0, 5.0, 9.0, 7.0
# After another key is there: for requests that were begun with the one before.
LAST_USE_S = 3.0


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


def write_keys(file: Path, *keys: str) -> None:
    """Let these be the keys of the clients."""
    digests = json.dumps([hashlib.sha256(key.encode()).hexdigest() for key in keys])
    new = file.with_suffix(".new")
    new.write_text(f"[soak]\nsha256 = {digests}\n")
    new.replace(file)


def rotate_keys(soak: Soak, file: Path) -> None:
    """Give the clients another key, and withdraw the one before when nobody uses it any more."""
    while not soak.stop.wait(ROTATE_S):
        old, new = soak.key, secrets.token_urlsafe()
        write_keys(file, old, new)
        if not soak.until(lambda key=new: _is_known(soak, key)):  # type: ignore[misc]
            soak.wrong.append("a new key is not known")
            continue
        soak.key = new
        time.sleep(LAST_USE_S)
        write_keys(file, new)
        if not soak.until(lambda key=old: not _is_known(soak, key)):  # type: ignore[misc]
            soak.wrong.append("a key that was withdrawn is known")
        soak.seen["key rotated"] += 1


def _is_known(soak: Soak, key: str) -> bool:
    url = soak.url.replace("/predict", "/models")
    return requests.get(url, headers={"X-API-Key": key}, timeout=60).status_code == 200


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
