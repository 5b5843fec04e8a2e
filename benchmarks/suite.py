"""The measurements: limits, servers in interleaved rounds, and overload at a constant rate."""

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
from functools import partial
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


class Server(Protocol):
    """A server that is ready for requests."""

    @property
    def url(self) -> str:
        """Where images are posted."""

    @property
    def start_s(self) -> float:
        """Seconds from its start to the first response."""

    def memory(self) -> int: ...
    def cpu_s(self) -> float: ...


@dataclass(frozen=True)
class Contender:
    """A server with a model: one row of the results."""

    key: str  # the peer's name, or ours:<artifact>
    title: str
    serve: Callable[[], contextlib.AbstractContextManager[Server]]
    request: Callable[[bytes], tuple[dict[str, str], bytes]]


@dataclass(frozen=True)
class Step:
    """One measurement; its key identifies it in the results of an interrupted run."""

    key: str
    measure: Callable[[dict[str, Result]], Result]


def ours(model: Model, artifact: str) -> Contender:
    """Our service with one artifact; the image is the body."""
    return Contender(
        f"{OURS}:{artifact}",
        f"this project, {artifact}",
        lambda: serving(model, artifact),
        lambda jpeg: ({"Content-Type": "image/jpeg"}, jpeg),
    )


def theirs(peer: Peer, model: Model, workers: int | None = None) -> Contender:
    """A peer with the TorchScript file of the bundle; by default one worker per core."""
    script, labels = model.peer_files()
    first = model.images[0].read_bytes()
    return Contender(
        peer.name if workers is None else f"{peer.name}:{workers}",
        f"{peer.title} {peer.version}" + ("" if workers is None else f", workers: {workers}"),
        lambda: running(peer, script, labels, first, usable_cores(), workers=workers),
        peer.request,
    )


def steps(
    models: dict[Model, list[str]], peers: list[str], rounds: int, seconds: float, overload: Model
) -> Iterator[Step]:
    """All measurements in order.

    Args:
        models: each with the artifacts that our service serves; the first is what `auto` chooses.
        peers: names in `PEERS`.
        rounds: interleaved rounds.
        seconds: of each load.
        overload: the model of the open loop.
    """
    for model in models:
        for artifact in model.manifest.artifacts:
            images = [str(path) for path in model.images]
            work = Work(str(model.bundle), artifact.id, images, model.batch, seconds)
            for number in range(rounds):
                key = f"limit/{model.name}/{artifact.id}/{number}"
                yield Step(key, partial(_limit, work))
    for number in range(rounds):
        for model, artifacts in models.items():
            row = [ours(model, artifact) for artifact in artifacts]
            row += [theirs(PEERS[peer], model) for peer in peers]
            # The other split of the cores, best for a single connection, for the fastest peer.
            row += [theirs(PEERS[peer], model, workers=1) for peer in peers if peer == FASTEST_PEER]
            turn = number % len(row)
            for contender in row[turn:] + row[:turn]:  # each round starts with another one
                key = f"server/{model.name}/{contender.key}/{number}"
                yield Step(key, partial(_server, contender, model, seconds))
    contender = ours(overload, models[overload][0])
    for share in RATES:
        key = f"open/{overload.name}/{share:g}"
        yield Step(key, partial(_open, contender, overload, share, seconds))


def capacity(results: dict[str, Result], model: Model, key: str) -> float:
    """Requests/s of the closed loops with the best number of connections, median of the rounds."""
    found = [r for name, r in results.items() if name.startswith(f"server/{model.name}/{key}/")]
    return max(
        float(statistics.median(r["loads"][str(c)]["requests_per_second"] for r in found))
        for c in CONNECTIONS
    )


def _limit(work: Work, _: dict[str, Result]) -> Result:
    return _finish(_start("benchmarks.limits", dataclasses.asdict(work)))


def _server(contender: Contender, model: Model, seconds: float, _: dict[str, Result]) -> Result:
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
            result["memory_bytes"] = server.memory()  # that of the last, heaviest load stays
            report = _finish(process)
            report["server_cores"] = (server.cpu_s() - before) / (time.perf_counter() - begun)
            result["loads"][str(connections)] = report
        return result


def _open(
    contender: Contender, model: Model, share: float, seconds: float, results: dict[str, Result]
) -> Result:
    rate = share * capacity(results, model, contender.key)
    with contender.serve() as server, tempfile.TemporaryDirectory() as folder:
        load = _load(contender, server, model, Path(folder), 2 * seconds)
        warm = dataclasses.asdict(dataclasses.replace(load, connections=8, seconds=seconds / 2))
        _finish(_start("benchmarks.load", warm))
        report = _finish(_start("benchmarks.load", dataclasses.asdict(load) | {"rate": rate}))
        return {"rate": rate, **report}


def _load(contender: Contender, server: Server, model: Model, folder: Path, seconds: float) -> Load:
    """The load of one server, with its request bodies in files."""
    headers: dict[str, str] = {}
    bodies = []
    for image in model.images:
        headers, body = contender.request(image.read_bytes())
        file = folder / image.name
        file.write_bytes(body)
        bodies.append(str(file))
    return Load(server.url, bodies, seconds=seconds, warmup_s=WARMUP_S, headers=headers)


def _start(module: str, arguments: Result) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", module, json.dumps(arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def _finish(process: subprocess.Popen[str]) -> Result:
    output, _ = process.communicate()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    found: Result = json.loads(output)
    return found
