"""Who has signed a bundle, found out by a process of its own: `python -m bundle.worker.signature`.

The package takes 55 MB and seconds to import, which neither the web process nor that of a model
should have for good; and it reads files of unknown origin.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

from bundle.errors import BundleError, WorkerDied
from bundle.sandbox import Sandbox
from bundle.signing.signers import names, read_signers
from bundle.signing.verify import Signature, verify
from bundle.worker.client import FramedProcess, raise_error
from bundle.worker.process import end_with, environment
from bundle.worker.wire import Wire, WireClosed

MEMORY_BYTES = 2 * 2**30


async def check_signature(
    bundle: Path, signers: Path, timeout_s: float, *, confined: bool = True
) -> Signature:
    """Check that a trusted signer has signed the files of a bundle as they are.

    Args:
        bundle: Its folder.
        signers: See `bundle.signing.signers`.
        timeout_s: Time limit in seconds.
        confined: Run the process in a sandbox.

    Raises:
        SignatureInvalid, SignersInvalid: See `bundle.signing.verify`.
        WorkerDied: The process ended, or took too long.
    """
    found = await _ask([bundle], signers, timeout_s, confined=confined)
    return Signature(found["manifest_sha256"], found["signer"])


async def describe_signers(signers: Path, timeout_s: float, *, confined: bool = True) -> str:
    """The signers in a sentence. Raises as `check_signature`."""
    found = await _ask([], signers, timeout_s, confined=confined)
    signers_found: str = found["signers"]
    return signers_found


async def _ask(
    bundles: list[Path], signers: Path, timeout_s: float, *, confined: bool
) -> dict[str, Any]:
    process = _process(bundles, signers, confined=confined)
    try:
        found = await process.start(timeout_s)
        raise_error(found)
    except WireClosed as exc:
        raise WorkerDied(f"The signature can't be checked. {exc}") from exc
    finally:
        await process.kill()
    return found


def _process(bundles: list[Path], signers: Path, *, confined: bool) -> FramedProcess:
    trusted, *folders = (str(path.absolute()) for path in (signers, *bundles))
    sandbox = Sandbox((trusted, *folders), (), MEMORY_BYTES, scratch=True)
    return FramedProcess(
        "bundle.worker.signature",
        {"bundles": folders, "signers": trusted},
        environment("cpu", 1),
        sandbox=sandbox if confined else None,
    )


def main(arguments: dict[str, Any]) -> None:
    """Send what was found, or the error.

    Args:
        arguments: bundles (at most one), signers, socket (fd), parent (pid).
    """
    end_with(arguments["parent"])
    wire = Wire(socket.socket(fileno=arguments["socket"]))
    signers = Path(arguments["signers"])
    try:
        found = {"signers": names(read_signers(signers))}
        for bundle in arguments["bundles"]:
            found |= verify(Path(bundle), signers)._asdict()
    except BundleError as exc:
        found = {"error": exc.code, "detail": str(exc)}
    wire.send(found)


if __name__ == "__main__":
    with contextlib.suppress(WireClosed):
        main(json.loads(sys.argv[1]))
    os._exit(0)
