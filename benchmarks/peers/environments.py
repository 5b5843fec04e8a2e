"""The virtual environment of each peer, build/peers/<name>: what its lock says, and only built again when that changes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .registry import FOLDER, Peer

ROOT = FOLDER.parent.parent
sys.path.append(str(ROOT / "scripts"))  # its files are started as files, and are no package

from environment import CPU, QUICK, works  # noqa: E402

STAMP = "complete"  # holds the lock that was installed


def environment(peer: Peer) -> Path:
    """The folder of the peer's environment, complete. Raises subprocess.CalledProcessError where it can't be built."""
    folder = ROOT / "build/peers" / peer.name
    wanted = peer.lock.read_text()
    if (folder / STAMP).exists() and (folder / STAMP).read_text() == wanted:
        return folder
    uv = str(ROOT / ".venv/bin/uv")
    subprocess.run(
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True
    )
    # The lock as constraints, as in scripts/environment.py: it also names what only the CUDA build of torch needs.
    asked = ["-r", str(peer.folder / "requirements.in"), "-c", str(peer.lock)]
    install = [uv, "pip", "install", "--python", str(folder), *asked]
    if works(*install, CPU, "--dry-run", env=QUICK):
        install.append(CPU)
    subprocess.run(install, check=True)
    (folder / STAMP).write_text(wanted)
    return folder
