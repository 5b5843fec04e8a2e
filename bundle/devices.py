"""What this machine can compute on, asked without loading a framework."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path


def cuda_devices() -> int:
    """The number of CUDA devices that the NVIDIA driver shows to this process; 0 where there is no driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


def cpu_threads() -> int:
    """The number of processors that this process may run on."""
    return len(os.sched_getaffinity(0))


def processor() -> str:
    """The processor as the operating system names it."""
    cpuinfo = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line
    ]
    return names[0] if names else os.uname().machine
