"""The process of one loaded model, driven from the event loop; `bundle.worker` runs in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from bundle.errors import BundleError, RuntimeUnavailable, WorkerDied
from bundle.format.manifest import Manifest
from bundle.worker.client import GRACE_S, FramedProcess
from bundle.worker.process import environment
from bundle.worker.responses import RuntimeInfo, check_shapes, raise_error
from bundle.worker.selection import AUTO, SOURCE
from bundle.worker.wire import WireClosed
from service.settings import Settings


def check_artifact(manifest: Manifest, wanted: str) -> None:
    """Check that the bundle has the artifact that SERVICE_RUNTIME names, if it names one.

    Checked for each bundle, because artifact ids are arbitrary.

    Raises:
        RuntimeUnavailable: it has not; the text names the setting.
    """
    if wanted not in (AUTO, SOURCE) and manifest.artifact(wanted) is None:
        ids = ", ".join(artifact.id for artifact in manifest.artifacts)
        raise RuntimeUnavailable(
            "SERVICE_RUNTIME names an artifact that the bundle does not have. "
            f"Expected {AUTO}, {SOURCE}, or one of: {ids}. Received: {wanted!r}"
        )


class ModelProcess:
    """`bundle.worker.blocking.RuntimeProcess` for an event loop, with several batches in flight.

    Args:
        bundle: the folder of the bundle.
        settings: what to run of it, on which device, with how many threads.
    """

    def __init__(self, bundle: Path, settings: Settings) -> None:
        compiled = settings.compiled_dir
        arguments = {
            "bundle": str(bundle.absolute()),
            "artifact": settings.runtime,
            "device": settings.device,
            "threads": settings.runtime_threads,
            "compiled": str(compiled.absolute()) if compiled else None,
        }
        self._process = FramedProcess(
            "bundle.worker",
            arguments,
            environment(settings.device, settings.runtime_threads, settings.openmp_wait),
        )
        self._classes = 0

    @property
    def running(self) -> bool:
        """Whether it is ready and has not ended."""
        return self._process.running

    async def start(self, timeout_s: float) -> RuntimeInfo:
        """Start it and wait until the bundle is verified and loaded and its golden samples pass.

        Raises:
            WorkerDied: it ended, or was not ready in time.
            BundleError: the bundle is not valid, or cannot be run here.
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
        self, images: Sequence[npt.NDArray[np.uint8]], timeout_s: float, *, exclusive: bool
    ) -> npt.NDArray[np.float32]:
        """Run one batch: images uint8 [H, W, 3] of the model's input size to logits float32 [N, C].

        Args:
            images: the N images.
            timeout_s: the deadline in seconds, counted from the end of the batch before.
            exclusive: use all cores; otherwise one inference stream, because others are in flight.

        Raises:
            WorkerDied: it has ended, or the deadline passed; the process is gone.
            RuntimeUnavailable: the model failed (out of memory); the process stays up.
        """
        method = "infer" if exclusive else "infer_on_stream"
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
        """Kill it; returns its exit status and its last lines of output."""
        return await self._process.kill()
