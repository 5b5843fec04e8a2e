"""Whether a TCP port is free, and which process uses it if not (from /proc, so on Linux)."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

LISTEN = "0A"  # the state column of /proc/net/tcp


def is_taken(host: str, port: int) -> bool:
    """Whether another process listens on `port` of `host`.

    Raises:
        OSError: `host` is not an address of this machine.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        # Connections in TIME_WAIT do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)
        except OSError as exc:
            if exc.errno == errno.EADDRINUSE:
                return True
            raise
    return False


def holder(port: int) -> str | None:
    """The process that listens on `port`: `python -m service (process 7)`; None if not visible."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(fd.readlink()) in sockets for fd in (process / "fd").iterdir()):
                words = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                command = words.decode(errors="replace").strip()
                return f"{command[:120]} (process {process.name})"
        except OSError:  # it has just exited, or belongs to another user
            continue
    return None


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            _, local, _, state, *rest = row.split()
            if state == LISTEN and int(local.rpartition(":")[2], 16) == port:
                inodes.add(rest[5])
    return inodes
