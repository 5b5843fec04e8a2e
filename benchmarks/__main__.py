"""`make bench`: our service, its peers and the limits of this machine, to benchmarks/RESULTS.md.

An interrupted run is resumed. The measurements run in their own network namespace if the system
allows it, so that the servers cannot be reached from outside, and cannot reach anything there.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks import page, suite
from benchmarks.models import BUILD, ROOT, resnet20, resnet50
from benchmarks.peers.environments import environment
from benchmarks.peers.registry import PEERS
from bundle.machine import processor, usable_cores
from bundle.worker.selection import SOURCE

RESULTS = BUILD / "results.json"
INSIDE = "BENCH_NAMESPACE"  # set inside the namespace

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console(highlight=False)


@app.command()
def main(
    rounds: Annotated[
        int, typer.Option(min=1, help="Interleaved rounds, whose medians are reported.")
    ] = 3,
    seconds: Annotated[
        float, typer.Option(min=0.5, help="Length of each measurement, after its warm-up.")
    ] = 4,
    peers: Annotated[
        str, typer.Option(help="Peers to measure, separated by commas; '' for none.")
    ] = ",".join(PEERS),
    quick: Annotated[
        bool, typer.Option("--quick", help="One short round with the fastest peer: 5 minutes.")
    ] = False,
) -> None:
    """Measure everything and write benchmarks/RESULTS.md with its plot."""
    if quick:
        rounds, seconds, peers = 1, 2, suite.FASTEST_PEER
    chosen = [name for name in peers.split(",") if name]
    if unknown := sorted(set(chosen) - set(PEERS)):
        raise typer.BadParameter(
            f"Expected some of {', '.join(PEERS)}. Received: {', '.join(unknown)}"
        )
    for name in chosen:
        with console.status(f"environment of {name}"):
            environment(PEERS[name])
    with console.status("models"):
        large, small = resnet50(), resnet20()
    _enter_namespace()
    chosen = [name for name in chosen if not _is_skipped(name)]
    models = {
        large: ["openvino-int8", SOURCE],
        small: ["openvino-int8"],
    }
    settings = {
        "rounds": rounds,
        "seconds": seconds,
        "peers": chosen,
        "processor": processor(),
        "cores": usable_cores(),
        "commit": _commit(),
    }
    done = _resume(settings)
    todo = list(suite.steps(models, chosen, rounds, seconds, large))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=len(todo), completed=0)
        for step in todo:
            progress.update(task, description=step.key)
            if step.key not in done:
                done[step.key] = step.measure(done)
                _save({"settings": settings, "results": done})
            progress.advance(task)
    written = page.write(settings, done, models, large)
    RESULTS.rename(BUILD / "last.json")
    console.print(f"Written: {written.relative_to(ROOT)}")


def _enter_namespace() -> None:
    """Restart this process with loopback as its only network, if the system permits it."""
    if os.environ.get(INSIDE) or {name for _, name in socket.if_nameindex()} == {"lo"}:
        return
    unshare = ["unshare", "--map-root-user", "--net"]
    enter = [*unshare, "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    if not all(shutil.which(tool) for tool in ("unshare", "ip")):
        return
    if subprocess.run([*enter, "true"], capture_output=True, check=False).returncode:
        return
    os.environ[INSIDE] = "1"
    command = [*enter, sys.executable, "-m", "benchmarks", *sys.argv[1:]]
    os.execvp(command[0], command)  # noqa: S606 - no shell on purpose


def _is_skipped(name: str) -> bool:
    """Whether the peer would open ports to the network; if so, print that it is skipped."""
    open_to_all = PEERS[name].every_interface and {n for _, n in socket.if_nameindex()} != {"lo"}
    if open_to_all:
        console.print(
            f"{PEERS[name].title} is skipped: it opens ports on every interface, and no network "
            "namespace is available (unshare and ip, as root or with user namespaces)."
        )
    return open_to_all


def _resume(settings: dict[str, Any]) -> dict[str, suite.Result]:
    """The results of an interrupted run with the same settings."""
    if RESULTS.exists():
        saved = json.loads(RESULTS.read_text())
        if saved["settings"] == settings:
            results: dict[str, suite.Result] = saved["results"]
            console.print(f"Resuming a run with {len(results)} finished measurements.")
            return results
    return {}


def _save(content: dict[str, Any]) -> None:
    new = RESULTS.with_suffix(".new")
    new.write_text(json.dumps(content))
    new.rename(RESULTS)


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


if __name__ == "__main__":
    app()
