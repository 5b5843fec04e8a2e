"""AOTInductor packages: a PyTorch network compiled to native code, ``explain(pixels, class_index)`` on PyTorch.

A package is made for one kind of device and of processor (``training/torch/compile.py``) and says so; elsewhere it is
refused before any of its code is loaded. It lies unpacked in the bundle, because PyTorch would unpack an archive into
/tmp, which a container may hold from running code, and leave it there when the process is killed.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from bundle.errors import RuntimeUnavailable
from bundle.machine import instruction_sets
from bundle.runtimes import Device, Heatmap, Logits
from bundle.runtimes.torchscript import to_device

MODEL = "model"  # the name of the one model in a package
DEVICE_KEY = "AOTI_DEVICE_KEY"  # PyTorch's own: cpu or cuda
RELEASE, INSTRUCTIONS, CAPABILITY = (
    "pytorch_release",
    "instruction_sets",
    "compute_capability",
)  # ours


def marks(torch: ModuleType, device: str) -> dict[str, str]:
    """What a package that is made here, for ``cpu`` or ``cuda``, needs wherever it runs; its metadata holds it."""
    release = ".".join(str(torch.__version__).split(".")[:2])
    if device == "cuda":
        major, minor = torch.cuda.get_device_capability()
        return {RELEASE: release, CAPABILITY: f"{major}.{minor}"}
    return {RELEASE: release, INSTRUCTIONS: " ".join(sorted(instruction_sets()))}


def load(
    path: Path, device: Device, threads: int | None, _precision: str, _compiled: Path | None
) -> AotInductorModel:
    """Load the package in the folder ``path``, if it was made for a machine like this one."""
    # The one heavy import, here so that this package never loads it in the web process.
    import torch  # noqa: PLC0415

    # `torch._inductor.aoti_load_package` is this class behind an import of the whole compiler: 3 s and 160 MB.
    loader = torch._C._aoti.AOTIModelPackageLoader
    metadata: dict[str, str] = loader.load_metadata_from_package(str(path), MODEL)  # type: ignore[attr-defined]
    made_for = metadata.get(DEVICE_KEY, "")
    if device not in ("auto", made_for) or (made_for == "cuda" and not torch.cuda.is_available()):
        raise RuntimeUnavailable(
            f"The artifact is compiled for the device {made_for!r}, which is not the one to use or is not there. Use "
            f"another artifact. Received: {device!r}"
        )
    _refuse_elsewhere(metadata, marks(torch, made_for))
    if threads is not None:
        torch.set_num_threads(threads)
    return AotInductorModel(torch, loader(str(path), MODEL, False, 1, -1), made_for)


def _refuse_elsewhere(metadata: dict[str, str], here: dict[str, str]) -> None:
    """Raise :class:`RuntimeUnavailable` unless the machine that ``here`` describes has what the package needs."""
    for key, found in here.items():
        needed = metadata.get(key, "unknown")
        if (
            key == INSTRUCTIONS
        ):  # a processor may have more of them than the one that it was compiled on
            needed, found = " ".join(sorted(set(needed.split()) - set(found.split()))), ""
        if found != needed:
            raise RuntimeUnavailable(
                f"The artifact is compiled for machines of another kind; it is made anew where the model is trained. "
                f"Expected {key}: {needed[:200]}. Received: {found or 'a processor without them'}"
            )


class AotInductorModel:
    """A package on one device."""

    runtime = "aotinductor"
    streams = 1

    def __init__(self, torch: ModuleType, package: Any, device: str) -> None:
        self._torch = torch
        self._package = package
        self.runtime_version = str(torch.__version__)
        self.device = device

    def infer(self, pixels: npt.NDArray[np.uint8]) -> Logits:
        """See :class:`bundle.runtimes.Model`. The heat map comes along: it costs one small product."""
        return self.explain(pixels, np.zeros(len(pixels), np.int64))[0]

    def infer_on_stream(self, pixels: npt.NDArray[np.uint8]) -> Logits:
        """See :class:`bundle.runtimes.Model`."""
        return self.infer(pixels)

    def explain(
        self, pixels: npt.NDArray[np.uint8], class_index: npt.NDArray[np.int64]
    ) -> tuple[Logits, Heatmap]:
        """See :class:`bundle.runtimes.Model`."""
        with self._torch.inference_mode():
            inputs = [to_device(self._torch, array, self.device) for array in (pixels, class_index)]
            logits, heatmap = (tensor.cpu().numpy() for tensor in self._package.boxed_run(inputs))
        return logits, heatmap
