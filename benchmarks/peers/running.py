"""A peer that runs: started, waited for, watched and ended, with every process that belongs to it."""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import os
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from .environments import ROOT, environment
from .registry import Peer, top5

MARK = "PEER_RUN"  # a variable that all processes of one run inherit, wherever they end up in the process tree
PR_SET_PDEATHSIG = 1  # linux/prctl.h
PAUSE_S = 0.05
GRACE_S = 10  # to end by itself after SIGTERM
LINES_SHOWN = 20


class NotRunning(Exception):
    """A peer that could not be started, with the end of what it printed."""


@dataclass(frozen=True)
class Running:
    """A peer that has answered its first question."""

    peer: Peer
    port: int
    start_s: float  # from the start of its first process to the first answer
    mark: str

    def processes(self) -> list[psutil.Process]:
        """Every process of it that is alive."""
        return marked(self.mark)

    def memory(self) -> int:
        """Bytes in use, with shared pages shared out (PSS)."""
        return memory(self.processes())

    def cpu_s(self) -> float:
        """Processor time so far, of the processes that are alive."""
        return cpu_s(self.processes())


def memory(processes: list[psutil.Process]) -> int:
    """Bytes in use, with shared pages shared out (PSS); a process that ends meanwhile has none."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().pss
    return total


def cpu_s(processes: list[psutil.Process]) -> float:
    """Processor time so far, of the processes that are alive."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


@contextlib.contextmanager
def running(
    peer: Peer,
    model: Path,
    labels: Path,
    jpeg: bytes,
    threads: int,
    workers: int | None = None,
    deadline_s: float = 180,
) -> Iterator[Running]:
    """Start the peer on a free port of 127.0.0.1, wait until it has classified ``jpeg``, and end it.

    Raises NotRunning where it ends or is silent until the deadline, and where it can't be kept off the network.
    """
    if peer.every_interface and any(name != "lo" for _, name in socket.if_nameindex()):
        raise NotRunning(
            f"{peer.title} opens ports on every interface. Expected loopback alone; build its environment, then start "
            "the measurement with: "
            "unshare --map-root-user --net sh -c 'ip link set lo up && exec \"$@\"' sh COMMAND"
        )
    python = environment(peer) / "bin/python"
    mark = uuid.uuid4().hex
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="peer-", ignore_cleanup_errors=True) as folder:
        log = Path(folder) / "log"
        variables = {
            **os.environ,
            **peer.variables,
            MARK: mark,
            "HOME": folder,  # whatever it wants to keep goes with the folder
            "TMPDIR": folder,
            "OMP_NUM_THREADS": str(max(1, threads // (workers or threads))),
            "PYTHONPATH": str(ROOT),
        }
        started = time.perf_counter()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [python, *peer.command(port, model, labels, threads, workers)],
                cwd=folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )
        try:
            while not answers(peer, port, jpeg, started + deadline_s):
                if process.poll() is not None or time.perf_counter() > started + deadline_s:
                    how = (
                        "is silent"
                        if process.returncode is None
                        else f"ended with {process.returncode}"
                    )
                    lines = log.read_text(errors="replace").splitlines()[-LINES_SHOWN:]
                    raise NotRunning(f"{peer.title} {how}:\n" + "\n".join(lines))
                time.sleep(PAUSE_S)
            yield Running(peer, port, time.perf_counter() - started, mark)
        finally:
            end(process, mark)


def answers(peer: Peer, port: int, jpeg: bytes, until: float) -> bool:
    """Whether the peer classifies the image now, which some do by letting it wait."""
    headers, body = peer.request(jpeg)
    connection = http.client.HTTPConnection(
        "127.0.0.1", port, timeout=max(1.0, until - time.perf_counter())
    )
    try:
        connection.request("POST", peer.predict_path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return answer.status == 200 and {"label", "score"} == set(top5(content)[0])


def end(process: subprocess.Popen[bytes], mark: str) -> None:
    """Ask the first process to end, and kill by number what is left of the run."""
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S)
    while left := marked(mark):  # again, for what they start meanwhile
        for other in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                other.kill()
        psutil.wait_procs(left, GRACE_S)
    process.wait()


def marked(mark: str) -> list[psutil.Process]:
    """The processes whose environment has the mark."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark:
                found.append(process)
    return found


def end_with_parent() -> None:
    """In the child: get SIGTERM when the measurement is killed, which runs no `finally`."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
