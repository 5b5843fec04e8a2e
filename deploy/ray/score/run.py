"""The shards of a plan on a cluster, by Ray Data."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import ray
import ray.data
import ray.exceptions
from rich.console import Console

from bundle.machine import usable_cores
from deploy.ray.score.errors import Refused, Stopped
from deploy.ray.score.plan import Plan, keep, read_plan
from deploy.ray.score.progress import Bar
from deploy.ray.score.storage import Storage
from deploy.ray.score.worker import ShardScorer, Work, choose

# The least that Ray takes; through it go numbers of shards, and neither images nor rows.
OBJECT_STORE_BYTES = 80 * 2**20
CONNECT_S = 10.0


@dataclass(frozen=True)
class Workers:
    """How the work is spread.

    Attributes:
        count: Workers; None: as many as the cluster has cores and GPUs for.
        cpus: Cores of each.
        gpus: GPUs of each, also less than one.
    """

    count: int | None
    cpus: int
    gpus: float


def run(
    plan: Plan,
    shards: Sequence[int],
    bundle: str,
    out: Storage,
    workers: Workers,
    address: str | None,
    console: Console,
) -> int:
    """Score shards of a plan, which is kept if it is new; returns how many images have no answer.

    Args:
        plan: Of the output; a new one may leave the artifact open.
        shards: Their numbers.
        bundle: Folder of the bundle, as every machine sees it.
        out: The output.
        workers: How the work is spread.
        address: Of the cluster; None: this machine alone.
        console: For the progress.

    Raises:
        Refused: The run can't begin like this.
        Stopped: It can't go on.
    """
    work, failed = Work(bundle, out.address, workers.cpus), 0
    console.print("Starting Ray ..." if address is None else f"Joining {address} ...")
    with cluster(address):
        if read_plan(out) is None:
            with console.status("loading the model ..."):
                plan = replace(plan, artifact=chosen_artifact(work, plan.artifact, workers))
            keep(plan, out)
        with Bar(console, plan.count, plan.count - sum(map(plan.size, shards))) as bar:
            for shard, without in scored(plan, work, shards, workers):
                bar.advance(plan.size(shard))
                failed += without
    return failed


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """A cluster, or one of this machine alone for the time of the run.

    Raises:
        Refused: There is none at the address.
        Stopped: It fails, or a worker in a way that is not foreseen.
    """
    if address is not None:
        _check_reachable(address)
    # Nothing is reported to Ray's makers, and its core says nothing of what it repairs itself.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    init = partial(ray.init, log_to_driver=False, logging_level=logging.ERROR)
    try:
        with _silent():
            if address is not None:
                init(address)
            else:
                init(
                    "local",
                    num_cpus=usable_cores(),
                    object_store_memory=OBJECT_STORE_BYTES,
                    include_dashboard=False,
                )
    except (ConnectionError, ValueError, RuntimeError) as exc:
        reason = str(exc).partition("\n")[0]
        raise Refused(
            f"There is no cluster to use. Received: {address or 'local'} ({reason})"
        ) from exc
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield
    except ray.exceptions.RayError as exc:
        # The last line is that of the exception in the worker, if there was one.
        reason = str(exc).strip().rpartition("\n")[2]
        raise Stopped(f"Ray can't go on. Received: {type(exc).__name__}: {reason}") from exc
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raise `Refused` unless something listens there: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit()):
        raise Refused(f"--address is the HOST:PORT of a Ray cluster. Received: {address}")
    try:
        socket.create_connection((host, int(port)), CONNECT_S).close()
    except (OSError, OverflowError) as exc:
        raise Refused(f"No Ray cluster answers at {address} ({type(exc).__name__}).") from exc


@contextmanager
def _silent() -> Iterator[None]:
    """Nothing on standard error for a moment: Ray's core says there which level it logs at."""
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def chosen_artifact(work: Work, wanted: str, workers: Workers) -> str:
    """The id of the artifact that a worker of the cluster takes.

    Raises:
        Refused: The bundle does not run there, or no machine has room for a worker.
    """
    there = _resources()
    for name, needed in (("CPU", workers.cpus), ("GPU", workers.gpus)):
        if needed > (found := there.get(name, 0)):
            raise Refused(
                f"The cluster has too few for a worker. Expected {needed:g} {name} or more. "
                f"Received: {found:g}"
            )
    task = ray.remote(choose).options(num_cpus=workers.cpus, num_gpus=workers.gpus)
    artifact, refused = ray.get(task.remote(work, wanted))
    if refused is not None:
        raise Refused(refused)
    return str(artifact)


def scored(
    plan: Plan, work: Work, shards: Sequence[int], workers: Workers
) -> Iterator[tuple[int, int]]:
    """Score shards, in any order: the number of each, and how many of its images have no answer.

    Raises:
        Stopped: The run can't go on.
    """
    count = min(workers.count or _room(_resources(), workers), len(shards))
    rows = (
        # A block each, so that a machine that is lost takes one shard with it.
        ray.data.from_items([{"shard": each} for each in shards], override_num_blocks=len(shards))
        .map_batches(
            ShardScorer,
            fn_constructor_args=(work, plan),
            batch_size=1,
            num_cpus=workers.cpus,
            num_gpus=workers.gpus,
            compute=ray.data.ActorPoolStrategy(size=count),
        )
        .iter_rows()
    )
    for row in rows:
        if row["failure"]:
            raise Stopped(row["failure"])
        yield row["shard"], row["failed"]


def _resources() -> dict[str, float]:
    found: dict[str, float] = ray.cluster_resources()
    return found


def _room(there: dict[str, float], workers: Workers) -> int:
    by_cpu = there.get("CPU", 0) // workers.cpus
    by_gpu = there.get("GPU", 0) // workers.gpus if workers.gpus else by_cpu
    return max(1, int(min(by_cpu, by_gpu)))
