"""How models in TorchScript share the cores of a CPU: `python -m benchmarks.sharing`.

A ResNet-18 at 224 pixels in fp32, one image a request, in a closed loop, with each OpenMP wait
policy in three situations. The policies are interleaved, idle processes are stopped, and the ratios
are the medians of those of the rounds, so that other load on the machine affects all alike.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.models import BUILD, ROOT
from bundle.worker.blocking import RuntimeProcess

POLICIES = {
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "active": {"OMP_WAIT_POLICY": "active"},
    # What libgomp does when neither variable is set: spin for a moment, then sleep.
    "unset": {"GOMP_SPINCOUNT": "300000"},
}
SITUATIONS = ("quiet", "one busy process", "two models")
TIMEOUT_S = 300.0
_RANDOM_WEIGHTS = """
import sys, torch, torchvision
torch.manual_seed(0)
torch.save(torchvision.models.resnet18(weights=None).state_dict(), sys.argv[1])
"""

console = Console()


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each policy.")] = 7,
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of a turn.")] = 2.0,
) -> None:
    """Measure requests/s with each policy, and print them with their ratio to `passive`."""
    bundle = _bundle()
    rates: dict[str, dict[str, list[float]]] = {
        situation: {policy: [] for policy in POLICIES} for situation in SITUATIONS
    }
    with ExitStack() as stack:
        pairs = {
            policy: [stack.enter_context(_loaded(bundle, variables)) for _ in range(2)]
            for policy, variables in POLICIES.items()
        }
        for _ in track(range(rounds), "Measuring", console=console, transient=True):
            for policy, (first, second) in pairs.items():
                quiet, busy, two = (rates[situation][policy] for situation in SITUATIONS)
                quiet.append(_rate([first], seconds))
                with _busy():
                    busy.append(_rate([first], seconds))
                two.append(_rate([first, second], seconds))
    table = Table("requests/s", *POLICIES, *(f"passive / {name}" for name in [*POLICIES][1:]))
    for situation, by_policy in rates.items():
        passive, *others = by_policy.values()
        ratios = (
            statistics.median(ours / theirs for ours, theirs in zip(passive, other, strict=True))
            for other in others
        )
        table.add_row(
            situation,
            *(f"{statistics.median(found):.1f}" for found in by_policy.values()),
            *(f"{ratio:.2f}" for ratio in ratios),
        )
    console.print(table)


def _bundle() -> Path:
    """The model, from the project's own exporter; made once."""
    repository, weights = BUILD / "sharing", BUILD / "resnet18.pth"
    if not (repository / "resnet18/1").exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        command = "-m training pretrained --framework torch --arch resnet18 --no-accelerate"
        options = ["--weights", weights, "--name", "resnet18", "--out", repository]
        for arguments in (["-c", _RANDOM_WEIGHTS, weights], [*command.split(), *options]):
            subprocess.run(
                [sys.executable, *map(str, arguments)],
                cwd=ROOT,
                check=True,
                stdout=subprocess.DEVNULL,
            )
    return repository / "resnet18/1"


@contextmanager
def _loaded(bundle: Path, variables: dict[str, str]) -> Iterator[RuntimeProcess]:
    """The model in a process with these variables; it is stopped whenever it has no turn."""
    before = {name: os.environ.pop(name, None) for each in POLICIES.values() for name in each}
    os.environ.update(variables)
    try:
        process = RuntimeProcess(bundle, device="cpu")
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
    with process:
        process.start(TIMEOUT_S)
        _signal(process, signal.SIGSTOP)
        try:
            yield process
        finally:
            _signal(process, signal.SIGCONT)


def _rate(processes: Sequence[RuntimeProcess], seconds: float) -> float:
    """Requests per second of all `processes` together, each with one client."""
    counts = [0] * len(processes)
    deadline = time.monotonic() + seconds

    def post(number: int) -> None:
        image = np.zeros((1, 224, 224, 3), np.uint8)
        while time.monotonic() < deadline:
            processes[number].infer(image, TIMEOUT_S)
            counts[number] += 1

    for process in processes:
        _signal(process, signal.SIGCONT)
    started = time.monotonic()
    threads = [threading.Thread(target=post, args=[number]) for number in range(len(processes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = time.monotonic() - started
    for process in processes:
        _signal(process, signal.SIGSTOP)
    return sum(counts) / taken


@contextmanager
def _busy() -> Iterator[None]:
    """A process that takes all of one core."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _signal(process: RuntimeProcess, number: signal.Signals) -> None:
    assert process.pid is not None  # noqa: S101 - it was started
    os.kill(process.pid, number)


if __name__ == "__main__":
    typer.run(main)
