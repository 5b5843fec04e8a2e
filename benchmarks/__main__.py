"""`make bench`: our service beside its peers and the limits of this machine, to benchmarks/RESULTS.md and a plot.

An interrupted run goes on where it was. The measurements run in a network namespace of their own where the system allows it,
so that nothing that is started can be reached from outside or reach anything there.
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

RESULTS = BUILD / "results.json"
INSIDE = "BENCH_NAMESPACE"  # set where the namespace is entered already

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
        str, typer.Option(help="Which peers, with commas between them; none: ''.")
    ] = ",".join(PEERS),
) -> None:
    """Measure everything and write benchmarks/RESULTS.md with its plot."""
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
    chosen = [name for name in chosen if not _left_out(name)]
    models = {
        large: ["openvino-int8", "openvino-bf16", "openvino-fp32"],
        small: ["openvino-int8"],
    }
    settings = {
        "rounds": rounds, "seconds": seconds, "peers": chosen, "processor": processor(), "cores": usable_cores(), "commit": _commit(),
    }  # fmt: skip
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
                _keep({"settings": settings, "results": done})
            progress.advance(task)
    page.write(settings, done, models, large)
    RESULTS.rename(BUILD / "last.json")
    console.print(f"Written: {page.PAGE.relative_to(ROOT)}")


def _enter_namespace() -> None:
    """Start this process again with loopback as its only network, if that may be."""
    if os.environ.get(INSIDE) or {name for _, name in socket.if_nameindex()} == {"lo"}:
        return
    enter = [
        "unshare",
        "--map-root-user",
        "--net",
        "sh",
        "-c",
        'ip link set lo up && exec "$@"',
        "sh",
    ]
    possible = [shutil.which(tool) for tool in ("unshare", "ip")]
    if (
        not all(possible)
        or subprocess.run([*enter, "true"], capture_output=True, check=False).returncode
    ):
        return
    os.environ[INSIDE] = "1"
    os.execvp(enter[0], [*enter, sys.executable, "-m", "benchmarks", *sys.argv[1:]])  # noqa: S606 - no shell is wanted


def _left_out(name: str) -> bool:
    """Whether the peer would open ports to the outside; it is named."""
    open_to_all = PEERS[name].every_interface and {n for _, n in socket.if_nameindex()} != {"lo"}
    if open_to_all:
        console.print(
            f"{PEERS[name].title} is left out: it opens ports on every interface, and this system gives no network "
            "namespace (unshare and ip, as root or with user namespaces)."
        )
    return open_to_all


def _resume(settings: dict[str, Any]) -> dict[str, suite.Result]:
    """What an interrupted run with the same settings has measured."""
    if RESULTS.exists():
        kept = json.loads(RESULTS.read_text())
        if kept["settings"] == settings:
            console.print(
                f"Going on with {len(kept['results'])} measurements of an interrupted run."
            )
            results: dict[str, suite.Result] = kept["results"]
            return results
    return {}


def _keep(content: dict[str, Any]) -> None:
    beside = RESULTS.with_suffix(".new")
    beside.write_text(json.dumps(content))
    beside.rename(RESULTS)


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()


if __name__ == "__main__":
    app()
