"""TorchScript artifacts: ``forward(pixels)`` and ``explain(pixels, class_index)`` on PyTorch."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bundle.runtimes import Device, Heatmap, Logits, no_cuda

if TYPE_CHECKING:
    import torch


def load(
    path: Path, device: Device, threads: int | None, _precision: str, _compiled: Path | None
) -> TorchScriptModel:
    """Load, put into evaluation mode and freeze the archive at ``path``."""
    # The one heavy import, here so that this package never loads it in the web process.
    import torch  # noqa: PLC0415

    if device == "cuda" and not torch.cuda.is_available():
        raise no_cuda("PyTorch")
    if threads is not None:
        torch.set_num_threads(threads)
    where = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    with warnings.catch_warnings():
        # TorchScript is deprecated upstream (torch 2.9) but is the format of this schema version.
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.(load|freeze)` is deprecated")
        module = torch.jit.load(str(path), map_location=where).eval()  # type: ignore[no-untyped-call]
        # Freezing folds batch normalisation into the convolutions; "explain" would be dropped unless named.
        module = torch.jit.freeze(module, preserved_attrs=["explain"])
    return TorchScriptModel(torch, module, where)


class TorchScriptModel:
    """A frozen TorchScript module on one device."""

    runtime = "torchscript"

    def __init__(self, torch: ModuleType, module: Any, device: torch.device) -> None:
        self._torch = torch
        self._module = module
        self._device = device
        self.runtime_version = str(torch.__version__)
        self.device = device.type

    def infer(self, pixels: npt.NDArray[np.uint8]) -> Logits:
        """See :class:`bundle.runtimes.Model`."""
        with self._torch.inference_mode():
            return self._numpy(self._module(self._tensor(pixels)))

    def explain(
        self, pixels: npt.NDArray[np.uint8], class_index: npt.NDArray[np.int64]
    ) -> tuple[Logits, Heatmap]:
        """See :class:`bundle.runtimes.Model`."""
        with self._torch.inference_mode():
            logits, heatmap = self._module.explain(self._tensor(pixels), self._tensor(class_index))
            return self._numpy(logits), self._numpy(heatmap)

    def _tensor(self, array: npt.NDArray[Any]) -> torch.Tensor:
        tensor: torch.Tensor = self._torch.from_numpy(array).to(self._device)
        return tensor

    def _numpy(self, tensor: torch.Tensor) -> npt.NDArray[np.float32]:
        array: npt.NDArray[np.float32] = tensor.cpu().numpy()
        return array
