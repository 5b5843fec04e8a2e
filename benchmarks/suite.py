"""The measurements, one after another: limits, servers in interleaved rounds, and overload at a constant arrival rate."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmarks.limits import Work
from benchmarks.load import Load
from benchmarks.models import ROOT, Model
from benchmarks.ours import serving
from benchmarks.peers.registry import PEERS, Peer
from benchmarks.peers.running import running
from bundle.machine import usable_cores

CONNECTIONS = (1, 8, 32)
WARMUP_S = 1.5
RATES = (0.5, 0.8, 1.0, 2.0, 4.0)  # of the capacity, for the open loop
OURS = "ours"
FASTEST_PEER = "mosec"

Result = dict[str, Any]


class Watched(Protocol):
    """A server that runs."""

    start_s: float

    def memory(self) -> int: ...
    def cpu_s(self) -> float: ...


@dataclass(frozen=True)
class Contender:
    """A server with a model, as one row of the results."""

    key: str  # the peer's name, or ours:<artifact>
    title: str
    serve: Callable[[], contextlib.AbstractContextManager[Watched]]
    url: Callable[[Any], str]
    request: Callable[[bytes], tuple[dict[str, str], bytes]]


@dataclass(frozen=True)
class Step:
    """One measurement; its key says what it is, and finds it in the results of an interrupted run."""

    key: str
    measure: Callable[[dict[str, Result]], Result]


def ours(model: Model, artifact: str) -> Contender:
    """Our service, with one artifact; the image is the body."""
    return Contender(
        f"{OURS}:{artifact}",
        f"this project, {artifact}",
        lambda: serving(model, artifact),
        lambda service: str(service.url),
        lambda jpeg: ({"Content-Type": "image/jpeg"}, jpeg),
    )


def theirs(peer: Peer, model: Model, workers: int | None = None) -> Contender:
    """A peer, with the TorchScript file of the bundle; one worker for each core unless said otherwise."""
    script, labels = model.peer_files()
    first = model.pictures[0].read_bytes()
    return Contender(
        peer.name if workers is None else f"{peer.name}:{workers}",
        f"{peer.title} {peer.version}" + ("" if workers is None else f", workers: {workers}"),
        lambda: running(peer, script, labels, first, usable_cores(), workers=workers),
        lambda run: f"http://127.0.0.1:{run.port}{peer.predict_path}",
        peer.request,
    )


def steps(
    models: dict[Model, list[str]], peers: list[str], rounds: int, seconds: float, overload: Model
) -> Iterator[Step]:
    """Everything, in order; ``models`` with our artifacts that are served, the first of them being what `auto` takes."""
    for model in models:
        for artifact in model.manifest.artifacts:
            work = Work(
                str(model.bundle),
                artifact.id,
                [str(p) for p in model.pictures],
                model.batch,
                seconds,
            )
            for number in range(rounds):
                yield Step(
                    f"limit/{model.name}/{artifact.id}/{number}", lambda _, work=work: _limit(work)
                )  # type: ignore[misc]
    for number in range(rounds):
        for model, artifacts in models.items():
            row = [ours(model, artifact) for artifact in artifacts]
            row += [theirs(PEERS[peer], model) for peer in peers]
            # The other split of the cores, which is best with one connection, for the fastest of them.
            row += [theirs(PEERS[peer], model, workers=1) for peer in peers if peer == FASTEST_PEER]
            turn = number % len(row)
            for contender in row[turn:] + row[:turn]:  # nobody is always first
                yield Step(
                    f"server/{model.name}/{contender.key}/{number}",
                    lambda _, c=contender, m=model: _server(c, m, seconds),  # type: ignore[misc]
                )
    first = models[overload][0]
    for share in RATES:
        yield Step(
            f"open/{overload.name}/{share:g}",
            lambda results, share=share: _open(  # type: ignore[misc]
                ours(overload, first),
                overload,
                share * capacity(results, overload, f"{OURS}:{first}"),
                seconds,
            ),
        )


def capacity(results: dict[str, Result], model: Model, key: str) -> float:
    """Requests per second of the closed loops, the best number of connections, the median of the rounds."""
    found = [r for name, r in results.items() if name.startswith(f"server/{model.name}/{key}/")]
    by_connections = (
        statistics.median(r["loads"][str(c)]["requests_per_second"] for r in found)
        for c in CONNECTIONS
    )
    return max(by_connections)


def _limit(work: Work) -> Result:
    return _finish(_start("benchmarks.limits", dataclasses.asdict(work)))


def _server(contender: Contender, model: Model, seconds: float) -> Result:
    with contender.serve() as server, tempfile.TemporaryDirectory() as folder:
        result: Result = {"title": contender.title, "start_s": server.start_s, "loads": {}}
        load = _load(contender, server, model, Path(folder), seconds)
        for connections in CONNECTIONS:
            before = server.cpu_s()
            begun = time.perf_counter()
            process = _start(
                "benchmarks.load", dataclasses.asdict(load) | {"connections": connections}
            )
            time.sleep(WARMUP_S + seconds / 2)
            result["memory_bytes"] = server.memory()  # of the last, the heaviest load
            report = _finish(process)
            report["server_cores"] = (server.cpu_s() - before) / (time.perf_counter() - begun)
            result["loads"][str(connections)] = report
        return result


def _open(contender: Contender, model: Model, rate: float, seconds: float) -> Result:
    with contender.serve() as server, tempfile.TemporaryDirectory() as folder:
        load = _load(contender, server, model, Path(folder), 2 * seconds)
        warm = dataclasses.asdict(dataclasses.replace(load, connections=8, seconds=seconds / 2))
        _finish(_start("benchmarks.load", warm))
        return {
            "rate": rate,
            **_finish(_start("benchmarks.load", dataclasses.asdict(load) | {"rate": rate})),
        }


def _load(
    contender: Contender, server: Watched, model: Model, folder: Path, seconds: float
) -> Load:
    """The load of one server: the pictures as it wants them, in files."""
    headers: dict[str, str] = {}
    bodies = []
    for picture in model.pictures:
        headers, body = contender.request(picture.read_bytes())
        file = folder / picture.name
        file.write_bytes(body)
        bodies.append(str(file))
    return Load(contender.url(server), bodies, seconds=seconds, warmup_s=WARMUP_S, headers=headers)


def _start(module: str, arguments: Result) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", module, json.dumps(arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def _finish(process: subprocess.Popen[str]) -> Result:
    output, _ = process.communicate()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    found: Result = json.loads(output)
    return found
