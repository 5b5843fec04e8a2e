"""What Ray Serve costs: `python -m benchmarks.overhead.ray`.

The same service with the same model, on its own and on a Ray of one node on the same cores. They
alternate under the same load, so that other load on the machine affects both; the ratio is the
median of those of the rounds. Variables of Ray (RAY_SERVE_...) are taken from the environment.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import psutil
import requests
import typer
import yaml
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.models import ROOT, Model, alone, resnet20, resnet50
from benchmarks.ours import serving
from benchmarks.overhead.rate import rate
from benchmarks.peers.running import NotRunning, free_port

CONNECTIONS = (1, 8, 32)
DEADLINE_S = 300
POLL_S = 0.2
CONFIG = ROOT / "deploy/ray/serve.yaml"
# Ray's workers are nice to other processes by default; nobody is nice to them.
VARIABLES = {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"}

console = Console()


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each service.")] = 7,
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of a turn.")] = 3.0,
    small: Annotated[bool, typer.Option("--small", help="ResNet-20 in place of 50.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the model.")] = 2,
) -> None:
    """Measure requests/s of both, and print them with their ratio."""
    model = resnet20() if small else resnet50()
    found: dict[int, list[tuple[float, float]]] = {each: [] for each in CONNECTIONS}
    with ExitStack() as stack:
        plain = stack.enter_context(serving(model, "auto", runtime_threads=str(threads))).url
        on_ray = stack.enter_context(_on_ray(model, threads))
        for number in track(range(rounds), model.title, console=console, transient=True):
            for connections, rates in found.items():
                turn = (plain, on_ray) if number % 2 else (on_ray, plain)
                done = {url: rate(url, model, connections, seconds) for url in turn}
                rates.append((done[plain], done[on_ray]))
    table = Table("requests/s", "connections", "plain", "on Ray", "on Ray / plain")
    for connections, rates in found.items():
        ratio = statistics.median(after / before for before, after in rates)
        cells = (f"{statistics.median(each):.1f}" for each in zip(*rates, strict=True))
        table.add_row(model.title, str(connections), *cells, f"{ratio:.3f}")
    console.print(table)


@contextmanager
def _on_ray(model: Model, threads: int) -> Iterator[str]:
    """Serve `model` on a Ray of one node until the block ends; yields the address.

    Raises:
        NotRunning: it does not respond in time.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        config = Path(folder, "serve.yaml")
        config.write_text(yaml.safe_dump(_config(model, threads, port)))
        log = Path(folder, "log")
        with log.open("w") as output:
            process = subprocess.Popen(
                [Path(sys.executable).with_name("serve"), "run", config],
                cwd=ROOT,
                env={**os.environ, **VARIABLES, "PYTHONPATH": str(ROOT), "RAY_TMPDIR": folder},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        running = psutil.Process(process.pid)
        try:
            deadline = time.monotonic() + DEADLINE_S
            while not _ready(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise NotRunning(f"Ray does not respond:\n{log.read_text()[-3000:]}")
                time.sleep(POLL_S)
            yield f"http://127.0.0.1:{port}/predict"
        finally:
            children = running.children(recursive=True) if process.poll() is None else []
            process.terminate()
            process.wait()
            for child in psutil.wait_procs(children, timeout=10)[1]:
                child.kill()


def _config(model: Model, threads: int, port: int) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
    (application,) = config["applications"]
    application["runtime_env"]["env_vars"] = {
        "SERVICE_MODELS_DIR": str(alone(model)),
        "SERVICE_DEFAULT_MODEL": model.name,
    }
    application["args"] = {"ingress_cpus": 0, "own": {"num_cpus": threads}}
    return config | {"http_options": {"host": "127.0.0.1", "port": port}}


def _ready(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code == 200
    except requests.RequestException:
        return False


if __name__ == "__main__":
    typer.run(main)
