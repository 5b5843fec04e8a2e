"""Where the time of a request goes: the stages in the response, and CPU time of each process.

    .venv/bin/python -m benchmarks.profile               # ResNet-50, int8
    .venv/bin/python -m benchmarks.profile --small       # the shipped ResNet-20, auto

CPU time is divided by the requests of a closed loop; waiting is not in it. The last column is
the time of all cores that the service did not use, per request: generator, kernel and idle.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import subprocess
import sys
import time
from typing import Annotated

import psutil
import requests
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.load import Load
from benchmarks.models import ROOT, resnet20, resnet50
from benchmarks.ours import serving
from benchmarks.suite import CONNECTIONS, WARMUP_S
from bundle.machine import usable_cores

REQUESTS = 200  # of one client, whose stages are shown
PROCESSES = {"service.decoding": "decoders", "bundle.worker": "models", "service": "web"}
console = Console(highlight=False)


def main(
    small: Annotated[
        bool, typer.Option("--small", help="The shipped ResNet-20 instead of ResNet-50.")
    ] = False,
    runtime: Annotated[
        str | None, typer.Option(help="An artifact; default int8 for ResNet-50, else auto.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Length of each load.")] = 5,
) -> None:
    """Print both tables."""
    model = resnet20() if small else resnet50()
    with serving(model, runtime or ("auto" if small else "openvino-int8")) as service:
        stages(service.url, model.images[0].read_bytes())
        table = Table(
            "connections",
            "requests/s",
            *PROCESSES.values(),
            "the rest",
            title="CPU, ms per request",
        )
        for connections in CONNECTIONS:
            load = Load(
                service.url,
                [str(p) for p in model.images],
                connections,
                warmup_s=WARMUP_S,
                seconds=seconds,
            )
            command = [
                sys.executable,
                "-m",
                "benchmarks.load",
                json.dumps(dataclasses.asdict(load)),
            ]
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
            time.sleep(WARMUP_S + 0.1 * seconds)
            before, begun = used(service.process), time.perf_counter()
            time.sleep(0.8 * seconds)
            after, passed = used(service.process), time.perf_counter() - begun
            rate = json.loads(process.communicate()[0])["requests_per_second"]
            share = {name: 1000 * (after[name] - before[name]) / passed / rate for name in after}
            rest = 1000 * usable_cores() / rate - sum(share.values())
            table.add_row(
                str(connections),
                f"{rate:.0f}",
                *(f"{ms:.2f}" for ms in share.values()),
                f"{rest:.2f}",
            )
        console.print(table)


def stages(url: str, image: bytes) -> None:
    """Medians of timing_ms, of one client that sends one request after another."""
    session = requests.Session()
    timings = []
    for _ in range(REQUESTS):
        began = time.perf_counter()
        headers = {"Content-Type": "image/jpeg"}
        body = session.post(url, image, headers=headers, timeout=60).json()
        timings.append(body["timing_ms"] | {"client": 1000 * (time.perf_counter() - began)})
    table = Table(
        *timings[0],
        title="one connection, ms (medians); total and client include the stages before them",
    )
    table.add_row(
        *(f"{statistics.median(timing[name] for timing in timings):.2f}" for name in timings[0])
    )
    console.print(table)


def used(service: psutil.Process) -> dict[str, float]:
    """CPU seconds so far, by kind of process."""
    found = dict.fromkeys(PROCESSES.values(), 0.0)
    for process in (service, *service.children(recursive=True)):
        kind = next((name for name in PROCESSES if name in process.cmdline()), None)
        times = process.cpu_times()
        if kind is not None:
            found[PROCESSES[kind]] += times.user + times.system
    return found


if __name__ == "__main__":
    typer.run(main)
