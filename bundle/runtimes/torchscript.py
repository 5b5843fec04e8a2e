"""TorchScript artifacts: `forward(pixels)` and perhaps `explain(pixels, class_index)` on PyTorch.

In bf16 and fp16 the same archive runs under autocast: convolutions and the classifier compute in
half precision; the normalisation of the pixels and the stored weights stay fp32, and fp32 is not
TF32. On CUDA, pixels are copied from pinned memory, and passes for logits alone are CUDA graphs.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bundle.errors import RuntimeUnavailable
from bundle.machine import computes_in_bf16
from bundle.runtimes import Device, Outputs, no_cuda
from bundle.runtimes.embeddings import torchscript_function
from bundle.runtimes.graphs import Graphs, record_cuda

if TYPE_CHECKING:
    import torch


def load(
    path: Path, device: Device, threads: int | None, precision: str, _compiled: Path | None
) -> TorchScriptModel:
    """Load the archive at `path`, put it into evaluation mode and freeze it."""
    # The one heavy import, here so that this package never loads it in the web process.
    import torch  # noqa: PLC0415

    if device == "cuda" and not torch.cuda.is_available():
        raise no_cuda("PyTorch")
    if threads is not None:
        torch.set_num_threads(threads)
    where = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    _refuse_slow(precision, where.type)
    # Otherwise cuDNN convolves in TF32, with the 10 bits of fp16, which the self-test of a source
    # artifact need not pass.
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        # TorchScript is deprecated upstream (torch 2.9) but is the format of this schema version.
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.(load|freeze)` is deprecated")
        module = torch.jit.load(str(path), map_location=where).eval()  # type: ignore[no-untyped-call]
        # Freezing folds batch normalisation into the convolutions; "explain" would be dropped
        # unless named.
        kept = ["explain"] if hasattr(module, "explain") else []
        # Weights may be stored in fp16.
        module = torch.jit.freeze(module.float(), preserved_attrs=kept)
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    return TorchScriptModel(torch, module, where, half)


def _refuse_slow(precision: str, device: str) -> None:
    """Raise `RuntimeUnavailable` for a precision that the CPU only emulates, which is slow."""
    if device == "cpu" and (
        precision == "fp16" or (precision == "bf16" and not computes_in_bf16())
    ):
        raise RuntimeUnavailable(
            "This precision needs a CUDA device, or for bf16 a processor with instructions for it. "
            f"Use the artifact of another precision. Received: {precision!r}"
        )


def to_device(pytorch: ModuleType, array: npt.NDArray[Any], device: str) -> torch.Tensor:
    """The array as a tensor on `device`, `cpu` or `cuda`; on the CPU it is not copied."""
    tensor: torch.Tensor = pytorch.from_numpy(array)
    if device == "cpu":
        return tensor
    # From pinned memory the copy is asynchronous.
    return tensor.pin_memory().to(device, non_blocking=True)


class TorchScriptModel:
    """A frozen TorchScript module on one device; `half` is the dtype of autocast, None: fp32."""

    runtime = "torchscript"
    streams = 1

    def __init__(
        self, torch: ModuleType, module: Any, device: torch.device, half: torch.dtype | None
    ) -> None:
        self._torch = torch
        self._module = module
        self._half = half
        self._embed = torchscript_function(torch, module)
        self.embedding = self._embed.dimension if self._embed else None
        self.runtime_version = str(torch.__version__)
        self.device = device.type
        self._graphs = (
            Graphs(module, partial(record_cuda, torch)) if device.type == "cuda" else None
        )

    @property
    def note(self) -> str:
        """See `bundle.runtimes.Model`."""
        problem = self._graphs and self._graphs.problem
        return f"without CUDA graphs: {problem}" if problem else ""

    def run(
        self,
        pixels: npt.NDArray[np.uint8],
        class_index: npt.NDArray[np.int64] | None = None,
        *,
        embeddings: bool = False,
        on_stream: bool = False,  # noqa: ARG002 - there is one
    ) -> Outputs:
        """See `bundle.runtimes.Model`; both heat maps and embeddings take two passes."""
        logits = heatmaps = vectors = None
        with self._inference():
            images = to_device(self._torch, pixels, self.device)
            if embeddings:
                assert self._embed is not None  # noqa: S101 - the caller has checked it
                logits, vectors = map(self._numpy, self._embed.run(images))
            if class_index is not None:
                classes = to_device(self._torch, class_index, self.device)
                logits, heatmaps = map(self._numpy, self._module.explain(images, classes))
            if logits is None:
                logits = self._numpy((self._graphs.run if self._graphs else self._module)(images))
        return Outputs(logits, heatmaps, vectors)

    @contextmanager
    def _inference(self) -> Iterator[None]:
        half = self._torch.autocast(self.device, self._half, enabled=self._half is not None)
        with self._torch.inference_mode(), half:
            yield

    def _numpy(self, tensor: torch.Tensor) -> npt.NDArray[np.float32]:
        array: npt.NDArray[np.float32] = tensor.float().cpu().numpy()
        return array
