"""What this process may use of the machine, within the limits of a container, asked without loading a framework."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
_MALLOC = {
    -1: 64 * 2**20,
    -2: 4 * 2**20,
    -3: 32 * 2**20,
}  # <malloc.h>: trim threshold, top pad, mmap threshold


def available_memory(proc: Path = PROC, cgroups: Path = CGROUPS) -> int:
    """The bytes that are free, or the limit of the process's control groups where that is less."""
    free = re.search(r"^MemAvailable: +(\d+) kB$", (proc / "meminfo").read_text(), re.MULTILINE)
    limits = [1024 * int(free[1])] if free else []
    for group in _groups("memory", proc, cgroups):
        for name in ("memory.max", "memory.limit_in_bytes"):  # cgroup v2, v1
            limits += [int(value) for value in _values(group / name) if value.isdigit()]
    return min(limits)


def usable_cores(proc: Path = PROC, cgroups: Path = CGROUPS) -> int:
    """The cores that the process may run on, or the CPU time of its control groups where that is less."""
    limits = [len(os.sched_getaffinity(0))]
    for group in _groups("cpu", proc, cgroups):
        quota_and_period = _values(group / "cpu.max") or [  # cgroup v2, v1
            *_values(group / "cpu.cfs_quota_us"),
            *_values(group / "cpu.cfs_period_us"),
        ]
        if len(quota_and_period) == 2 and quota_and_period[0].isdigit():  # neither `max` nor -1
            limits.append(math.ceil(int(quota_and_period[0]) / int(quota_and_period[1])))
    return min(limits)


def computes_in_bf16(proc: Path = PROC) -> bool:
    """Whether the processor has instructions for bfloat16; without them it is slower than float32."""
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", (proc / "cpuinfo").read_text(), re.MULTILINE)
    flags = found[1].split() if found else []
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)


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


def cuda_device_name() -> str:
    """The first CUDA device as the NVIDIA driver names it; call it where :func:`cuda_devices` has found one."""
    driver, name = ctypes.CDLL("libcuda.so.1"), ctypes.create_string_buffer(256)
    if driver.cuInit(0) or driver.cuDeviceGetName(name, len(name), 0):
        return "CUDA device"
    return name.value.decode(errors="replace")


def tune_malloc() -> None:
    """Let this process keep up to 64 MB that it frees, for pictures and batches come and go by the hundred per second.

    glibc gives such blocks back to the system at once, and the page faults that bring them again are a sixth of the time of
    decoding a photo (`benchmarks/`). Elsewhere than on glibc nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in _MALLOC.items():
            mallopt(parameter, value)


def processor(proc: Path = PROC) -> str:
    """The processor as the operating system names it."""
    cpuinfo = proc / "cpuinfo"
    names = [
        line.partition(":")[2].strip()
        for line in cpuinfo.read_text().splitlines()
        if "model name" in line
    ]
    return names[0] if names else os.uname().machine


def _groups(controller: str, proc: Path, cgroups: Path) -> Iterator[Path]:
    """The folders of the control group of this process and of those around it; some may not be visible."""
    for line in (proc / "self" / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = cgroups / controller if controllers else cgroups
        group = mount / path.lstrip("/")
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(mount))


def _values(file: Path) -> list[str]:
    return file.read_text().split() if file.is_file() else []
