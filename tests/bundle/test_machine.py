from __future__ import annotations

import ctypes
from ctypes import c_char
from pathlib import Path

import pytest

from bundle.machine import (
    available_memory,
    computes_in_bf16,
    cuda_device_name,
    oom_kills,
    processor,
    usable_cores,
)

MEMINFO = "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    8000000 kB\n"


def machine(root: Path, groups: str, **files: str) -> tuple[Path, Path]:
    """The folders /proc and /sys/fs/cgroup of a machine; `__` in a file name stands for `/`."""
    proc, cgroups = root / "proc", root / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(MEMINFO)
    (proc / "self" / "cgroup").write_text(groups)
    for name, content in files.items():
        file = cgroups / name.replace("__", "/").replace("_dot_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return proc, cgroups


def test_without_limits_the_free_memory_counts(tmp_path: Path) -> None:
    folders = machine(
        tmp_path, "0::/user\n", user__memory_dot_max="max\n", user__cpu_dot_max="max 100000\n"
    )

    assert available_memory(*folders) == 8_192_000_000
    assert usable_cores(*folders) >= 1


@pytest.mark.parametrize(
    ("groups", "files"),
    [
        ("0::/a/b\n", {"a__memory_dot_max": "2000000000\n", "a__cpu_dot_max": "50000 100000\n"}),
        ("0::/unseen\n", {"memory_dot_max": "2000000000\n", "cpu_dot_max": "100000 100000\n"}),
        (
            "4:memory:/a\n1:cpu,cpuacct:/a\n",
            {
                "memory__a__memory_dot_limit_in_bytes": "2000000000\n",
                "memory__memory_dot_limit_in_bytes": "9223372036854771712\n",
                "cpu__a__cpu_dot_cfs_quota_us": "100000\n",
                "cpu__a__cpu_dot_cfs_period_us": "100000\n",
            },
        ),
    ],
    ids=["the group around", "a container of its own", "cgroup v1"],
)
def test_the_limits_of_control_groups_count(
    groups: str, files: dict[str, str], tmp_path: Path
) -> None:
    folders = machine(tmp_path, groups, **files)

    assert available_memory(*folders) == 2_000_000_000
    assert usable_cores(*folders) == 1


@pytest.mark.parametrize(
    ("flags", "found"),
    [("avx512f avx512_bf16 sse", True), ("asimd bf16", True), ("avx2 f16c", False)],
)
def test_bf16_is_read_from_the_flags_of_the_processor(
    flags: str, found: bool, tmp_path: Path
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags\t\t: {flags}\n")

    assert computes_in_bf16(tmp_path) is found


def test_this_machine_has_memory_and_a_name() -> None:
    assert available_memory() > 100_000_000
    assert processor()


@pytest.mark.parametrize(("status", "name"), [(0, "NVIDIA H100 80GB HBM3"), (100, "CUDA device")])
def test_a_cuda_device_has_the_name_that_its_driver_gives(status: int, name: str) -> None:
    class Driver:
        """libcuda as documented: cuDeviceGetName fills a buffer; 100 means there is no device."""

        def cuInit(self, _flags: int) -> int:  # noqa: N802 - NVIDIA's name
            return status

        def cuDeviceGetName(self, name: ctypes.Array[c_char], size: int, device: int) -> int:  # noqa: N802
            assert (size, device) == (256, 0)
            name.value = b"NVIDIA H100 80GB HBM3"
            return 0

    assert cuda_device_name(Driver()) == name


@pytest.mark.parametrize(
    ("groups", "files"),
    [
        ("0::/a\n", {"a__memory_dot_events": "low 0\nhigh 0\nmax 9\noom 4\noom_kill 3\n"}),
        (
            "4:memory:/a\n",
            {"memory__a__memory_dot_oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"},
        ),
    ],
    ids=["cgroup v2", "cgroup v1"],
)
def test_processes_killed_for_lack_of_memory_are_counted(
    groups: str, files: dict[str, str], tmp_path: Path
) -> None:
    assert oom_kills(*machine(tmp_path, groups, **files)) == 3


def test_without_a_control_group_no_process_is_counted(tmp_path: Path) -> None:
    assert oom_kills(*machine(tmp_path, "0::/unseen\n")) == 0
