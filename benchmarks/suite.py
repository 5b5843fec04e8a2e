"""The measurements: limits, servers in interleaved rounds, overload, a busy neighbour, starts."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
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
from bundle.worker.selection import SOURCE

CONNECTIONS = (1, 8, 32)
WARMUP_S = 1.5
RATES = (0.5, 0.8, 1.0, 2.0, 4.0)  # of the capacity, for the open loop
STUBBORN = 544  # connections that send again at once when they are refused: twice the queue and 32
PEAK = 32  # connections of the closed loop that gives the capacity
NEIGHBOUR = 8
OURS = "ours"
FASTEST_PEER = "mosec"
WITH_IR = "@ir"  # in the key of a peer that runs our OpenVINO IR
BUSY = "while True: pass"

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


def theirs(
    peer: Peer, model: Model, workers: int | None = None, artifact: str = SOURCE
) -> Contender:
    """A peer with an artifact of the bundle; by default its TorchScript, one worker per core."""
    file, labels = model.peer_files(artifact)
    first = model.images[0].read_bytes()
    ir = "" if artifact == SOURCE else WITH_IR
    title = f"{peer.title} {peer.version}{f' with {artifact}' if ir else ''}"
    return Contender(
        f"{peer.name}{ir}" if workers is None else f"{peer.name}:{workers}{ir}",
        title if workers is None else f"{title}, workers: {workers}",
        lambda: running(peer, file, labels, first, usable_cores(), workers=workers),
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
            for name in peers:
                # The other split of the cores, best for a single connection, for the fastest peer.
                for workers in (None, 1) if name == FASTEST_PEER else (None,):
                    row.append(theirs(PEERS[name], model, workers))
                    if PEERS[name].runs_ir:
                        row.append(theirs(PEERS[name], model, workers, artifacts[0]))
            turn = number % len(row)
            for contender in row[turn:] + row[:turn]:  # each round starts with another one
                key = f"server/{model.name}/{contender.key}/{number}"
                yield Step(key, partial(_server, contender, model, seconds))
    for share in RATES:
        key = f"open/{overload.name}/{share:g}"
        yield Step(key, partial(_open, overload, models[overload][0], share, seconds))
    stubborn = partial(_stubborn, overload, models[overload][0], seconds)
    yield Step(f"stubborn/{overload.name}", stubborn)
    row = [ours(overload, SOURCE)]
    row += [theirs(PEERS[name], overload) for name in peers if name == FASTEST_PEER]
    for number in range(rounds):
        for contender in row:
            key = f"neighbour/{contender.key}/{number}"
            yield Step(key, partial(_neighbour, contender, overload, seconds))
    for number in range(rounds):
        yield Step(f"start/{number}", partial(_starts, overload))


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
    model: Model, artifact: str, share: float, seconds: float, _: dict[str, Result]
) -> Result:
    """A constant rate, a share of what a closed loop reaches in the same service."""
    with _apart(model, artifact, seconds) as (load, peak, pin):
        rate = share * peak
        offered = dataclasses.asdict(dataclasses.replace(load, seconds=2 * seconds, rate=rate))
        return {"rate": rate, "peak": peak, **_finish(_start("benchmarks.load", offered, pin))}


def _stubborn(model: Model, artifact: str, seconds: float, _: dict[str, Result]) -> Result:
    """More connections than the queue has room for, none of which waits after a refusal."""
    with _apart(model, artifact, seconds) as (load, peak, pin):
        many = dataclasses.asdict(dataclasses.replace(load, connections=STUBBORN))
        return {"peak": peak, **_finish(_start("benchmarks.load", many, pin))}


@contextlib.contextmanager
def _apart(
    model: Model, artifact: str, seconds: float
) -> Iterator[tuple[Load, float, frozenset[int] | None]]:
    """Our service on all cores but one, which the load generator has for itself.

    Yields the load, the requests/s of a closed loop, and the core of the generator.
    """
    *most, last = sorted(os.sched_getaffinity(0))
    cores, pin = (frozenset(most), frozenset({last})) if most else (None, None)
    contender = ours(model, artifact)
    with (
        serving(model, artifact, cores=cores) as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        load = _load(contender, server, model, Path(folder), seconds)
        closed = dataclasses.asdict(load) | {"connections": PEAK}
        yield load, _finish(_start("benchmarks.load", closed, pin))["requests_per_second"], pin


def _neighbour(contender: Contender, model: Model, seconds: float, _: dict[str, Result]) -> Result:
    """A closed loop while another process keeps a core busy."""
    with contender.serve() as server, tempfile.TemporaryDirectory() as folder:
        load = _load(contender, server, model, Path(folder), seconds)
        busy = subprocess.Popen([sys.executable, "-c", BUSY])
        try:
            closed = dataclasses.asdict(load) | {"connections": NEIGHBOUR}
            return {"title": contender.title, **_finish(_start("benchmarks.load", closed))}
        finally:
            busy.kill()
            busy.wait()


def _starts(model: Model, _: dict[str, Result]) -> Result:
    """Seconds to the first response of all shipped models, without and with a compiled cache."""
    with serving(model, "auto", shipped=True) as server:
        found = {"first": server.start_s}
    with tempfile.TemporaryDirectory() as folder:
        with serving(model, "auto", shipped=True, compiled_dir=folder):
            pass
        with serving(model, "auto", shipped=True, compiled_dir=folder) as server:
            return found | {"cached": server.start_s}


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


def _start(
    module: str, arguments: Result, cores: frozenset[int] | None = None
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", module, json.dumps(arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=partial(os.sched_setaffinity, 0, cores) if cores else None,
    )


def _finish(process: subprocess.Popen[str]) -> Result:
    output, _ = process.communicate()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    found: Result = json.loads(output)
    return found
