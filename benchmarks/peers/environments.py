"""The virtual environment of each peer, build/peers/<name>, built from its lock."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.peers.registry import FOLDER, Peer

ROOT = FOLDER.parent.parent
sys.path.append(str(ROOT / "scripts"))  # scripts are not a package

from environment import CPU, QUICK, works  # noqa: E402

STAMP = "complete"  # a copy of the lock that was installed


def environment(peer: Peer) -> Path:
    """The folder of the peer's environment, built if its lock has changed.

    Raises:
        subprocess.CalledProcessError: it can't be built.
    """
    folder = ROOT / "build/peers" / peer.name
    wanted = peer.lock.read_text()
    if (folder / STAMP).exists() and (folder / STAMP).read_text() == wanted:
        return folder
    uv = str(ROOT / ".venv/bin/uv")
    subprocess.run(
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True
    )
    # The lock as constraints: it also pins packages that only the CUDA build of torch needs.
    requirements = ["-r", str(peer.folder / "requirements.in"), "-c", str(peer.lock)]
    install = [uv, "pip", "install", "--python", str(folder), *requirements]
    if works(*install, CPU, "--dry-run", env=QUICK):
        install.append(CPU)
    subprocess.run(install, check=True)
    (folder / STAMP).write_text(wanted)
    return folder
