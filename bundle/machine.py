"""Memory, cores and devices available to this process, without loading a framework."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
DEVICES = Path("/dev")
# Of <malloc.h>: trim threshold, top pad, mmap threshold.
_MALLOC = {-1: 64 * 2**20, -2: 4 * 2**20, -3: 32 * 2**20}


def available_memory(proc: Path = PROC, cgroups: Path = CGROUPS) -> int:
    """Free memory in bytes, or the limit of the process's control groups where that is lower."""
    free = re.search(r"^MemAvailable: +(\d+) kB$", (proc / "meminfo").read_text(), re.MULTILINE)
    limits = [1024 * int(free[1])] if free else []
    for group in _groups("memory", proc, cgroups):
        for name in ("memory.max", "memory.limit_in_bytes"):  # cgroup v2, v1
            limits += [int(value) for value in _values(group / name) if value.isdigit()]
    return min(limits)


def oom_kills(proc: Path = PROC, cgroups: Path = CGROUPS) -> int:
    """Processes of this control group that the kernel has killed for lack of memory so far."""
    killed = 0
    for group in _groups("memory", proc, cgroups):
        for name in ("memory.events", "memory.oom_control"):  # cgroup v2, v1
            values = _values(group / name)
            killed += int(dict(zip(values[::2], values[1::2], strict=False)).get("oom_kill", 0))
    return killed


def address_space(proc: Path = PROC) -> int:
    """Virtual memory of this process in bytes, which RLIMIT_AS limits."""
    return int((proc / "self/statm").read_text().split()[0]) * resource.getpagesize()


def usable_cores(proc: Path = PROC, cgroups: Path = CGROUPS) -> int:
    """Cores that the process may run on, or the CPU quota of its control groups if lower."""
    limits = [len(os.sched_getaffinity(0))]
    for group in _groups("cpu", proc, cgroups):
        # cgroup v2, else v1.
        quota_and_period = _values(group / "cpu.max") or [
            *_values(group / "cpu.cfs_quota_us"),
            *_values(group / "cpu.cfs_period_us"),
        ]
        # Without a quota it is `max` or -1.
        if len(quota_and_period) == 2 and quota_and_period[0].isdigit():
            limits.append(math.ceil(int(quota_and_period[0]) / int(quota_and_period[1])))
    return min(limits)


def computes_in_bf16(proc: Path = PROC) -> bool:
    """Whether the processor has bfloat16 instructions; without them bf16 is slower than float32."""
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", (proc / "cpuinfo").read_text(), re.MULTILINE)
    flags = found[1].split() if found else []
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)


def cuda_devices() -> int:
    """The number of CUDA devices visible to this process; 0 without an NVIDIA driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


def has_gpu(devices: Path = DEVICES) -> bool:
    """Whether the machine has an NVIDIA GPU's device files, without a call to the driver."""
    return any((devices / name).exists() for name in ("nvidiactl", "dxg"))  # dxg: under Windows


class CudaDriver(Protocol):
    """The functions of NVIDIA's driver library that `cuda_device_name` calls; 0 is success."""

    def cuInit(self, flags: int, /) -> int:  # noqa: N802 - NVIDIA's name
        """Initialize the driver."""

    def cuDeviceGetName(self, name: ctypes.Array[ctypes.c_char], size: int, device: int, /) -> int:  # noqa: N802
        """Write the name of a device into a buffer of `size` bytes."""


def cuda_device_name(driver: CudaDriver | None = None) -> str:
    """The NVIDIA driver's name for the first CUDA device, where `cuda_devices` has found one."""
    cuda, name = driver or ctypes.CDLL("libcuda.so.1"), ctypes.create_string_buffer(256)
    if cuda.cuInit(0) or cuda.cuDeviceGetName(name, len(name), 0):
        return "CUDA device"
    return name.value.decode(errors="replace")


def tune_malloc() -> None:
    """Raise glibc's trim and mmap thresholds so that image buffers are reused.

    Otherwise they are returned to the kernel, and the page faults of their next use take a sixth of
    the time of decoding a photo (`benchmarks/`). Does nothing without glibc.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in _MALLOC.items():
            mallopt(parameter, value)


def trim_malloc() -> None:
    """Return freed memory to the kernel, once loading is over. Does nothing without glibc."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def processor(proc: Path = PROC) -> str:
    """The operating system's name for the processor."""
    cpuinfo = proc / "cpuinfo"
    names = [
        line.partition(":")[2].strip()
        for line in cpuinfo.read_text().splitlines()
        if "model name" in line
    ]
    return names[0] if names else os.uname().machine


def _groups(controller: str, proc: Path, cgroups: Path) -> Iterator[Path]:
    """The folders of this process's control group and its parents; some may not be visible."""
    for line in (proc / "self" / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = cgroups / controller if controllers else cgroups
        group = mount / path.lstrip("/")
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(mount))


def _values(file: Path) -> list[str]:
    return file.read_text().split() if file.is_file() else []
