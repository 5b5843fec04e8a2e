"""What tests do to a process."""

from __future__ import annotations

import os
import signal
import time

import psutil


def pause(pid: int) -> None:
    """Stop a process; SIGCONT lets it go on. The signal alone stops it a moment later."""
    os.kill(pid, signal.SIGSTOP)
    process = psutil.Process(pid)
    deadline = time.monotonic() + 60
    while process.status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < deadline, f"process {pid} is {process.status()}"
        time.sleep(0.001)
