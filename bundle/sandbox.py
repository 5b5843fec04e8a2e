"""Gives up what a process does not need, and runs its module: `python -m bundle.sandbox`.

Done before the module imports anything, while there is one thread: Landlock and the filter of
system calls hold for the threads that begin later, and can't be undone. A measure that the kernel
or the container does not allow is left out, and the report says so. Why this is no library:
docs/decisions/0016-isolation.md.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import resource
import runpy
import stat
import struct
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

IN_FORCE = "in force"
# ResNet-50 allocates 1.3 GB for a batch of 32 with TorchScript, the runtime that takes most.
MODEL_MEMORY_MB = 8192

# Of <linux/prctl.h>, <linux/seccomp.h> and <linux/audit.h>.
_SET_NO_NEW_PRIVS, _SET_FILTER, _ALLOW_SPECULATION = 38, 1, 4
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
_X32 = 0x40000000
# Instructions of the filter: load a word of `struct seccomp_data`, compare it, end.
_LOAD, _EQUAL, _AT_LEAST, _END = 0x20, 0x15, 0x35, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
# By machine: its architecture, the calls `seccomp` and `socket`, and the others that are refused:
# ptrace, process_vm_readv, process_vm_writev and pidfd_getfd reach into the web process,
# io_uring_setup makes sockets too.
_CALLS = {
    "x86_64": (0xC000003E, 317, 41, (101, 310, 311, 425, 438)),
    "aarch64": (0xC00000B7, 277, 198, (117, 270, 271, 425, 438)),
}
_AF_UNIX, _AF_NETLINK = 1, 16

# Of <linux/landlock.h>; the numbers of its calls are the same on every machine.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH = 1, 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE, _IOCTL = 1, 2, 4, 8, 1 << 14, 1 << 15
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL
_READ = _READ_FILE | _READ_DIR
# By version of the interface: the rights over files that it knows, bind and connect of TCP, and
# signals and abstract sockets of processes outside.
_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_TCP, _SCOPES = {4: 3}, {6: 3}

# Read by Python, glibc and the runtimes: libraries, processor, memory, control groups, time zone.
_SYSTEM = (
    *("/usr", "/lib", "/lib64", "/nix/store", "/sys"),
    *("/etc/ld.so.cache", "/etc/localtime", "/etc/nsswitch.conf", "/etc/passwd", "/etc/group"),
    *("/dev/random", "/dev/urandom"),
)
# Not all of it: /proc/PID/environ of the web process has the secrets among its settings.
_PROC = tuple(
    f"/proc/{name}"
    for name in ("self", "cpuinfo", "meminfo", "stat", "version", "filesystems", "sys")
)
_PROC_OF_GPU = ("/proc/self", "/proc/devices", "/proc/modules", "/proc/driver")
_DEVICES = ("/dev/null", "/dev/zero")

MEASURES = ("no_new_privileges", "files", "network", "memory")
Report = dict[str, str]
"""By measure: `in force`, or why it is not."""


@dataclass(frozen=True)
class Sandbox:
    """What a child may do besides computing: read Python, the system's libraries and its module.

    Args:
        read: Folders and files that it may also read.
        write: Folders that it may change.
        memory_bytes: Memory that it may allocate; None: its module sets a limit.
        gpu: It may use the devices of the machine, which need more.
        scratch: It gets a folder of its own for temporary files, which is deleted with it.
    """

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    memory_bytes: int | None = None
    gpu: bool = False
    scratch: bool = False

    def command(self, module: str) -> list[str]:
        """The arguments of Python that run `module` inside."""
        return ["-m", "bundle.sandbox", json.dumps(asdict(self)), module]

    def enter(self, module: str) -> Report:
        """Give up the rest, for this process and what it starts; there is no way back."""
        functions: tuple[Callable[[], str], ...] = (
            _no_new_privileges,
            lambda: self._restrict_files(module),
            self._refuse_calls,
            self._limit_memory,
        )
        return {name: _attempt(each) for name, each in zip(MEASURES, functions, strict=True)}

    def _restrict_files(self, module: str) -> str:
        """Landlock: no other files, no programs; and from its fourth version on no TCP."""
        version = _call(_CREATE_RULESET, None, 0, _VERSION_FLAG)
        handled, tcp, scopes = (_newest(known, version) for known in (_RIGHTS, _TCP, _SCOPES))
        attributes = struct.pack("QQQ", handled, tcp, scopes)
        size = 24 if version >= 6 else 16 if version >= 4 else 8
        ruleset = _call(_CREATE_RULESET, attributes, size, 0)
        try:
            rules = [*_code(module), *((path, _READ_FILE | _WRITE_FILE) for path in _DEVICES)]
            rules += [(path, _READ) for path in (*_SYSTEM, *_PROC, *_with_targets(self.read))]
            rules += [(path, handled & ~(_EXECUTE | _IOCTL)) for path in self.write]
            if self.gpu:
                # Its driver starts programs, and writes into devices, caches and temporary files.
                temporary = tempfile.gettempdir()
                home = os.environ.get("HOME", temporary)
                paths = {"/dev", temporary, home, *_PROC_OF_GPU} - {"/"}
                rules += [(path, handled) for path in paths]
                rules += [(path, _READ | _EXECUTE) for path in _SYSTEM]
            for path, rights in rules:
                _allow(ruleset, path, rights & handled)
            _call(_RESTRICT_SELF, ruleset, 0)
        finally:
            os.close(ruleset)
        return IN_FORCE

    def _refuse_calls(self) -> str:
        """A filter of system calls: no sockets, and no reach into other processes."""
        machine = platform.machine()
        if machine not in _CALLS:
            return f"the numbers of the system calls of {machine} are not known here"
        architecture, _, socket, others = _CALLS[machine]
        # Each comparison skips the next instruction unless it holds.
        program = [
            *((_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, architecture), (_END, 0, 0, _REFUSE)),
            *((_LOAD, 0, 0, _NUMBER), (_AT_LEAST, 0, 1, _X32), (_END, 0, 0, _REFUSE)),
        ]
        for call in others:
            program += [(_EQUAL, 0, 1, call), (_END, 0, 0, _REFUSE)]
        if self.gpu:
            # The driver talks to its services over local sockets.
            program += [(_EQUAL, 1, 0, socket), (_END, 0, 0, _ALLOW)]
            program += [(_LOAD, 0, 0, _FIRST_ARGUMENT)]
            for family in (_AF_UNIX, _AF_NETLINK):
                program += [(_EQUAL, 0, 1, family), (_END, 0, 0, _ALLOW)]
            program += [(_END, 0, 0, _REFUSE)]
        else:
            program += [(_EQUAL, 0, 1, socket), (_END, 0, 0, _REFUSE), (_END, 0, 0, _ALLOW)]
        _filter(program)
        return IN_FORCE

    def _limit_memory(self) -> str:
        if self.gpu:
            return "not in force: the driver of a GPU reserves more than any limit"
        if self.memory_bytes is None:
            return IN_FORCE
        # Not RLIMIT_AS, which counts what the runtimes map of files and reserve: 3 GB for torch.
        resource.setrlimit(resource.RLIMIT_DATA, (self.memory_bytes, self.memory_bytes))
        return IN_FORCE


def _no_new_privileges() -> str:
    """No program that it starts gets rights by its owner; the next two measures need it."""
    _checked(_libc().prctl(_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0))))
    return IN_FORCE


def _attempt(measure: Callable[[], str]) -> str:
    try:
        return measure()
    except OSError as exc:
        return f"not in force: the system does not allow it ({exc.strerror})"


def _code(module: str) -> Iterator[tuple[str, int]]:
    """Where Python, its packages and `module` lie, and what they need there."""
    ours = Path(__file__).resolve().parents[1]
    # In a checkout the models lie beside the packages.
    yield str(ours), _READ_DIR
    yield from ((str(ours / package), _READ) for package in {"bundle", module.split(".")[0]})
    found = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix, *sys.path}
    found.update(os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep))
    yield from ((path, _READ) for path in found if path and Path(path).resolve() != ours)


def _with_targets(paths: Iterable[str]) -> Iterator[str]:
    """Each path, and where the links in a folder lead: stores of files by content make them."""
    for path in paths:
        yield path
        for folder, _, names in os.walk(path):
            yield from (os.path.realpath(f"{folder}/{name}") for name in names)


def _allow(ruleset: int, path: str, rights: int) -> None:
    """Add a rule, unless this machine has no such path."""
    try:
        found = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(found).st_mode):
            rights &= _OF_FILES
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, found), 0)
    finally:
        # The kernel forgets a file of /proc that is not in use, and the rule with it.
        if not path.startswith("/proc/"):
            os.close(found)


def _filter(program: Sequence[tuple[int, int, int, int]]) -> None:
    """Let the kernel run this program before each system call from now on."""
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    text = ctypes.create_string_buffer(code, len(code))
    number = _CALLS[platform.machine()][1]
    # Without the flag a kernel before 5.16 turns speculation off, which makes computing slower.
    filters = struct.pack("HP", len(program), ctypes.addressof(text))
    _call(number, _SET_FILTER, _ALLOW_SPECULATION, filters)


def _newest(known: Mapping[int, int], version: int) -> int:
    """What the newest version of the interface has that is not newer than the kernel's."""
    return next((known[each] for each in sorted(known, reverse=True) if each <= version), 0)


def _call(number: int, *arguments: bytes | int | None) -> int:
    """A system call that glibc has no function for."""
    found: int = _libc().syscall(ctypes.c_long(number), *map(_word, arguments))
    return _checked(found)


def _word(argument: bytes | int | None) -> object:
    return ctypes.c_ulong(argument) if isinstance(argument, int) else argument


def _libc() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    return library


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def main() -> None:
    """Enter the sandbox, and run the module with its report among the arguments."""
    sandbox, module, arguments = sys.argv[1:]
    fields = json.loads(sandbox)
    report = Sandbox(**fields).enter(module)
    sys.argv = [module, json.dumps({**json.loads(arguments), "isolation": report})]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
