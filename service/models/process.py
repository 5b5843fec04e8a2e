"""Which process runs a model, by the settings."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from bundle.errors import RuntimeUnavailable
from bundle.format.manifest import Manifest
from bundle.machine import cuda_devices
from bundle.worker.model_process import ModelProcess, Pixels
from bundle.worker.process import Reason
from bundle.worker.responses import ClassifiedBatch, Extras, RuntimeInfo
from bundle.worker.selection import AUTO, SOURCE
from service.settings import Settings


class RunningModel(Protocol):
    """What runs the batches of an instance: a `ModelProcess` here, or one on another machine.

    The methods are those of `ModelProcess`, with the same arguments, results and errors.
    """

    @property
    def running(self) -> bool:
        """Whether it is ready and has not ended."""
        ...

    @property
    def reason(self) -> Reason | None:
        """Why it has ended, once `kill` has returned."""
        ...

    @property
    def info(self) -> RuntimeInfo:
        """What it runs; `RuntimeError` before `start`."""
        ...

    async def start(self, timeout_s: float) -> RuntimeInfo:
        """Start it and wait until the model is loaded and passes its self-test."""
        ...

    async def classify(
        self,
        images: Sequence[bytes | Pixels],
        timeout_s: float,
        *,
        exclusive: bool,
        extras: Mapping[int, Extras] | None = None,
    ) -> ClassifiedBatch:
        """Run one batch."""
        ...

    async def kill(self, grace_s: float = 0) -> str:
        """End it; returns how it ended."""
        ...

    def kill_now(self) -> None:
        """End it, from any thread."""
        ...


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


def new_process(bundle: Path, settings: Settings, number: int = 0) -> ModelProcess:
    """Make the process of an instance of a bundle, which is not started yet.

    Args:
        bundle: its folder.
        settings: of the model.
        number: of the instance; instances are divided among the GPUs.
    """
    several = settings.instances > 1 and settings.device != "cpu"
    devices = _gpus() if several else 0
    return ModelProcess(
        bundle,
        settings.runtime,
        settings.device,
        settings.runtime_threads,
        compiled=settings.compiled_dir,
        limits=settings.image_limits,
        openmp_wait=settings.openmp_wait,
        gpu=number % devices if devices else None,
        confined=settings.confined,
        memory_mb=settings.worker_memory_mb,
        signers=settings.signers,
    )


@functools.cache
def _gpus() -> int:
    """The number of GPUs, asked for once: the driver may take a second."""
    return cuda_devices()
