"""Which process runs a model, by the settings."""

from __future__ import annotations

import functools
from pathlib import Path

from bundle.errors import RuntimeUnavailable
from bundle.format.manifest import Manifest
from bundle.machine import cuda_devices
from bundle.worker.model_process import ModelProcess
from bundle.worker.selection import AUTO, SOURCE
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
