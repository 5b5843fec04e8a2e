from __future__ import annotations

from pathlib import Path

import pytest

from training.machine import available_memory, computes_in_bf16, this_machine, usable_cores

MEMINFO = "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    8000000 kB\n"


def machine(root: Path, groups: str, **files: str) -> tuple[Path, Path]:
    """The folders /proc and /sys/fs/cgroup of a machine; `__` in the name of a file stands for `/`."""
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
    folders = machine(tmp_path, "0::/user\n", user__memory_dot_max="max\n", user__cpu_dot_max="max 100000\n")

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
def test_the_limits_of_control_groups_count(groups: str, files: dict[str, str], tmp_path: Path) -> None:
    folders = machine(tmp_path, groups, **files)

    assert available_memory(*folders) == 2_000_000_000
    assert usable_cores(*folders) == 1


@pytest.mark.parametrize(
    ("flags", "found"), [("avx512f avx512_bf16 sse", True), ("asimd bf16", True), ("avx2 f16c", False)]
)
def test_bf16_is_read_from_the_flags_of_the_processor(flags: str, found: bool, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags\t\t: {flags}\n")

    assert computes_in_bf16(tmp_path) is found


def test_this_machine_has_memory() -> None:
    assert this_machine(gpu=False).memory > 100_000_000
