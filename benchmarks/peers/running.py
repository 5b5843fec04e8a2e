"""Start, measure and stop a peer with all its processes."""

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

from benchmarks.peers.environments import ROOT, environment
from benchmarks.peers.registry import Peer, top5

MARK = "PEER_RUN"  # inherited by all processes of a run, wherever they are in the process tree
PR_SET_PDEATHSIG = 1  # linux/prctl.h
POLL_S = 0.05
GRACE_S = 10  # to exit after SIGTERM
LINES_SHOWN = 20


class NotRunning(Exception):
    """A peer could not be started; with the end of its output."""


@dataclass(frozen=True)
class Running:
    """A peer that has responded to its first request."""

    peer: Peer
    port: int
    start_s: float  # from the start of its first process to the first response
    mark: str

    @property
    def url(self) -> str:
        """Where images are posted."""
        return f"http://127.0.0.1:{self.port}{self.peer.predict_path}"

    def processes(self) -> list[psutil.Process]:
        """All its live processes."""
        return marked(self.mark)

    def memory(self) -> int:
        """Memory in bytes (PSS: shared pages divided among processes)."""
        return memory(self.processes())

    def cpu_s(self) -> float:
        """CPU seconds so far of its live processes."""
        return cpu_s(self.processes())


def memory(processes: list[psutil.Process]) -> int:
    """Memory in bytes (PSS: shared pages divided among processes); exited processes count 0."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += int(process.memory_full_info().pss)
    return total


def cpu_s(processes: list[psutil.Process]) -> float:
    """CPU seconds so far of the live processes."""
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
    """Run the peer on a free port of 127.0.0.1 until the block ends, once it has classified `jpeg`.

    Raises:
        NotRunning: it exits, is not ready within `deadline_s` seconds, or would open ports to the
            network.
    """
    if peer.every_interface and any(name != "lo" for _, name in socket.if_nameindex()):
        raise NotRunning(
            f"{peer.title} opens ports on every interface. Expected loopback alone; build its "
            "environment, then start the measurement with: "
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
            "HOME": folder,  # deleted with the folder
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
            while not responds(peer, port, jpeg, started + deadline_s):
                if process.poll() is not None or time.perf_counter() > started + deadline_s:
                    code = process.returncode
                    how = "does not respond" if code is None else f"exited with {code}"
                    lines = log.read_text(errors="replace").splitlines()[-LINES_SHOWN:]
                    raise NotRunning(f"{peer.title} {how}:\n" + "\n".join(lines))
                time.sleep(POLL_S)
            yield Running(peer, port, time.perf_counter() - started, mark)
        finally:
            end(process, mark)


def responds(peer: Peer, port: int, jpeg: bytes, until: float) -> bool:
    """Whether the peer classifies the image; some queue it until the model is loaded."""
    headers, body = peer.request(jpeg)
    connection = http.client.HTTPConnection(
        "127.0.0.1", port, timeout=max(1.0, until - time.perf_counter())
    )
    try:
        connection.request("POST", peer.predict_path, body, headers)
        response = connection.getresponse()
        content = response.read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return response.status == 200 and {"label", "score"} == set(top5(content)[0])


def end(process: subprocess.Popen[bytes], mark: str) -> None:
    """Send SIGTERM to the first process, then kill by pid what is left of the run."""
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S)
    while left := marked(mark):  # in a loop, because they may start further processes
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
    """In the child: request SIGTERM for when the parent is killed, which runs no `finally`."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def free_port() -> int:
    """A free port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
