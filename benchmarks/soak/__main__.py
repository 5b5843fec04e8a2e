"""`make soak`: clients, good and bad, while processes are killed and versions come and go.

    make soak                      # 5 minutes
    make soak ARGS="--minutes 60"

A service has a repository of its own with two models. Version after version of the first appears,
of two networks in turn, and now and then a broken one; the second is unloaded and loaded by route.
The clients' API key changes again and again, and some of them speak the Open Inference Protocol.
Good clients ask at 80 % of what they reached before, and compare each answer with what that version
answered while nothing happened. At the end: no lost and no wrong answer, and memory and open files
as at the start. The exit code is 1 otherwise.
"""

from __future__ import annotations

import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from benchmarks.models import resnet20
from benchmarks.ours import serving
from benchmarks.peers.running import free_port
from benchmarks.soak.clients import Soak
from benchmarks.soak.disturbances import (
    KEY,
    change_versions,
    kill_processes,
    rotate_keys,
    unload_and_load,
    write_keys,
)
from benchmarks.soak.protocols import ask_over_grpc, ask_over_http
from benchmarks.soak.repository import SOAKED, Repository

CLIENTS = 8
SHARE = 0.8
CALM_S, WARM_S = 3.0, 15.0
GROWTH = 1.25  # of memory and of open files; a second decoder starts only when one is busy

console = Console(highlight=False)


def main(
    minutes: Annotated[float, typer.Option(help="Length of the run.", min=0.5)] = 5.0,
) -> None:
    """Run, and print what happened."""
    images = [path.read_bytes() for path in resnet20().images]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as access:
        repository, keys = Repository(Path(folder)), Path(access) / "keys.toml"
        repository.add()
        key, grpc_port = secrets.token_urlsafe(), free_port()
        write_keys(keys, key)
        with serving(
            resnet20(),
            "auto",
            models_dir=folder,
            default_model=SOAKED,
            admin_key=KEY,
            watch_s="0.5",
            key=key,
            api_keys_file=str(keys),
            grpc_port=str(grpc_port),
        ) as service:
            failed = _run(Soak(service, images, key, grpc_port), repository, keys, 60 * minutes)
    sys.exit(failed)


def _run(soak: Soak, repository: Repository, keys: Path, seconds: float) -> bool:
    """Run, and print what happened; returns whether something went wrong."""
    soak.learn()
    repository.add()
    soak.until(lambda: soak.state(2) == "ready")
    soak.learn()
    rate = _together(soak, [], CALM_S, "Measuring") / CALM_S
    soak.interval_s = CLIENTS / (SHARE * rate)
    console.print(f"{rate:.0f} requests/s without disturbance; clients send {SHARE * rate:.0f}/s")
    # Every process has had its largest body by then, and keeps memory for the next one.
    _together(soak, [soak.bad_client, soak.deaf_client], WARM_S, "Warming up")
    processes = soak.processes()
    memory, files = soak.service.memory(), soak.service.process.num_fds()
    soak.seen.clear()
    disturbances: list[Callable[[], object]] = [
        partial(kill_processes, soak),
        partial(unload_and_load, soak),
        partial(change_versions, soak, repository),
        partial(rotate_keys, soak, keys),
    ]
    protocols = [partial(ask_over_http, soak), partial(ask_over_grpc, soak)]
    others: list[Callable[[], object]] = [soak.bad_client, soak.deaf_client]
    others += [*protocols, *disturbances]
    answered = _together(soak, others, seconds, "Soaking")
    last = max(set(range(1, repository.newest + 1)) - repository.broken)
    soak.until(lambda: soak.state(last) == "ready" and soak.processes() == processes)
    if soak.processes() != processes:
        soak.wrong.append(f"{soak.processes()} processes of models in place of {processes}")
    now, open_files = soak.service.memory(), soak.service.process.num_fds()
    for what, count in sorted(soak.seen.items()):
        console.print(f"{count:8} {what}")
    console.print(f"{answered:8} answers of {repository.newest} versions compared")
    console.print(f"memory {memory / 1e6:.0f} -> {now / 1e6:.0f} MB, files {files} -> {open_files}")
    if now > GROWTH * memory:
        soak.wrong.append("the memory has grown")
    if open_files > GROWTH * files + 5:
        soak.wrong.append("files are left open")
    console.print(f"{len(soak.wrong)} lost or wrong")
    for line, count in Counter(soak.wrong).most_common(20):
        console.print(f"{count:8} {line}", markup=False)
    return bool(soak.wrong)


def _together(soak: Soak, others: Sequence[Callable[[], object]], seconds: float, what: str) -> int:
    """Let the good clients and others run for a while; returns the number of answers."""
    with ThreadPoolExecutor(CLIENTS + len(others)) as pool:
        running = [pool.submit(other) for other in others]
        clients = [pool.submit(soak.good_client, seed) for seed in range(CLIENTS)]
        for _ in track(range(round(seconds)), what, console=console, transient=True):
            time.sleep(1)
        soak.stop.set()
        for other in running:
            other.result()
        answered = sum(client.result() for client in clients)
    soak.stop.clear()
    time.sleep(CALM_S)
    return answered


if __name__ == "__main__":
    typer.run(main)
