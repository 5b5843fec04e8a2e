"""The process of one loaded model, driven from the event loop (:mod:`bundle.worker` is the other side)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from bundle.errors import BundleError, RuntimeUnavailable, WorkerDied
from bundle.format.manifest import Manifest
from bundle.runtimes import Device
from bundle.worker.blocking import RuntimeInfo, check_shapes, raise_error
from bundle.worker.client import GRACE_S, FramedProcess
from bundle.worker.process import OpenMPWait, environment
from bundle.worker.selection import AUTO, SOURCE
from bundle.worker.wire import WireClosed


def check_artifact(manifest: Manifest, wanted: str) -> None:
    """Whether the bundle has what the setting `wanted` names. Ids are free, so none is wrong for every bundle.

    Raises:
        RuntimeUnavailable: it has not; the text names the setting.
    """
    if wanted not in (AUTO, SOURCE) and manifest.artifact(wanted) is None:
        ids = ", ".join(artifact.id for artifact in manifest.artifacts)
        raise RuntimeUnavailable(
            f"SERVICE_RUNTIME names an artifact that the bundle does not have. Expected {AUTO}, {SOURCE}, or one of: "
            f"{ids}. Received: {wanted!r}"
        )


class ModelProcess:
    """As :class:`bundle.worker.blocking.RuntimeProcess`, without a thread that waits, and with several batches under way."""

    def __init__(
        self,
        bundle: Path,
        artifact: str,
        device: Device,
        threads: int | None,
        compiled: Path | None,
        openmp_wait: OpenMPWait = "passive",
    ) -> None:
        arguments = {
            "bundle": str(bundle.absolute()),
            "artifact": artifact,
            "device": device,
            "threads": threads,
            "compiled": str(compiled.absolute()) if compiled else None,
        }
        self._process = FramedProcess(
            "bundle.worker", arguments, environment(device, threads, openmp_wait)
        )
        self._classes = 0

    @property
    def pid(self) -> int | None:
        """Process id; None before the start."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it takes images."""
        return self._process.running

    async def start(self, timeout_s: float) -> RuntimeInfo:
        """Start it and wait until it is ready: verified, loaded, golden samples passed.

        Raises:
            WorkerDied: it ended, or was not ready in time.
            BundleError: the bundle has not passed.
        """
        try:
            header = await self._process.start(timeout_s)
        except WireClosed as exc:
            raise WorkerDied(str(exc)) from exc
        try:
            raise_error(header)
        except BundleError:
            await self.kill()
            raise
        self._classes = header["classes"]
        return cast("RuntimeInfo", header)

    async def infer(
        self, images: Sequence[npt.NDArray[np.uint8]], timeout_s: float, *, beside: bool
    ) -> npt.NDArray[np.float32]:
        """N images uint8 [H, W, 3] of the model's input to float32 logits [N, C].

        `beside`: with one stream of the model, for others work or soon will; else with all that the machine has. The
        time counts from the end of the batch before. After :class:`WorkerDied` the process is gone.

        Raises:
            WorkerDied: it has ended, ends meanwhile, or takes longer than `timeout_s` seconds.
            RuntimeUnavailable: the model fails (out of memory); the process stays up.
        """
        method = "infer_on_stream" if beside else "infer"
        try:
            header, arrays = await self._process.ask({"method": method}, [images], timeout_s)
        except (TimeoutError, WireClosed) as exc:
            timed_out = isinstance(exc, TimeoutError)
            what = "did not answer in time and is killed" if timed_out else "ended"
            ending = await self._process.kill(0 if timed_out else GRACE_S)
            raise WorkerDied(f"The process that runs the model {what}. {ending}") from exc
        raise_error(header)
        check_shapes(arrays, [(len(images), self._classes)])
        return arrays[0]

    async def kill(self) -> str:
        """End it at once; how it ended and what it said last."""
        return await self._process.kill()
