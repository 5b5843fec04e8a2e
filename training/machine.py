"""What this process may use of the machine: memory, cores and number formats, within the limits of a container."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Machine:
    """What the choice of a configuration depends on."""

    memory: int  # bytes that are free
    bf16: bool  # whether the processor computes in bfloat16
    gpu: bool  # whether the framework sees one


def this_machine(gpu: bool) -> Machine:
    """The machine that this runs on; `gpu` is for the framework to say."""
    return Machine(available_memory(), computes_in_bf16(), gpu)


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
    return bool(re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", (proc / "cpuinfo").read_text()))


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
