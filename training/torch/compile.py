"""PyTorch networks compiled ahead of time, by torch.export and AOTInductor, for the machine that this runs on."""

from __future__ import annotations

import logging
import tempfile
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn

from bundle.errors import AccelerationFailed
from bundle.machine import computes_in_bf16
from bundle.runtimes import describe
from bundle.runtimes.aotinductor import MODEL, marks

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
MOST_IMAGES = 4096  # in one batch
PART = f"data/aotinductor/{MODEL}/"  # the part of a package that is loaded; the rest describes the archive


class _InHalfPrecision(nn.Module):
    """`explain` of a network with convolutions and classifier in half precision, weights and results in fp32."""

    def __init__(self, network: nn.Module, device: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = network
        self.device = device
        self.dtype = dtype

    def forward(self, pixels: Tensor, class_index: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(self.device, self.dtype):
            logits, heat_map = self.network.explain(pixels, class_index)
        return logits.float(), heat_map.float()


def compile_network(network: nn.Module, image_size: int, directory: Path) -> dict[str, str]:
    """Compile for the CUDA device in fp16, or else for the processor in bf16, into folders of `directory`.

    Returns:
        By precision the path of the package below `directory`.

    Raises:
        AccelerationFailed: the processor has no bf16 instructions, and in fp32 OpenVINO is faster; there is no C++
            compiler; or PyTorch can't compile the network.
    """
    device, precision = ("cuda", "fp16") if torch.cuda.is_available() else ("cpu", "bf16")
    if device == "cpu" and not computes_in_bf16():
        raise AccelerationFailed(
            "This processor has no bf16 instructions, and in fp32 OpenVINO is faster."
        )
    # Importing the compiler takes seconds; exports that are not accelerated do without.
    from torch._inductor import aoti_compile_and_package  # noqa: PLC0415
    from torch._inductor.utils import fresh_cache  # noqa: PLC0415

    options = {
        "freezing": True,  # weights are folded and laid out when they are compiled, not at every call
        "cpp.dynamic_threads": True,  # as many as the process is given, not as many as there are here
        "compile_threads": 1,  # no pool of processes that outlives this call
        "aot_inductor.metadata": marks(torch, device),
    }
    network = network.eval().to(device)
    pixels = torch.zeros((2, image_size, image_size, 3), dtype=torch.uint8, device=device)
    batch = torch.export.Dim("batch", min=1, max=MOST_IMAGES)
    path = f"aotinductor/{precision}"
    # That there is no CUDA is no news, and that a cache is kept after an error is not true of ours.
    for name in ("torch.utils.cpp_extension", "torch._inductor.utils"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with (
            torch.no_grad(),
            tempfile.TemporaryDirectory(prefix="compile-") as scratch,
            fresh_cache(dir=scratch),
        ):
            program = torch.export.export(
                _InHalfPrecision(network, device, HALF[precision]),
                (pixels, torch.zeros(2, dtype=torch.int64, device=device)),
                dynamic_shapes=({0: batch}, {0: batch}),
            )
            package = aoti_compile_and_package(
                program, package_path=f"{scratch}/package.pt2", inductor_configs=options
            )
            _unpack(Path(package), directory / path)
    except OSError:
        raise
    except Exception as exc:
        raise AccelerationFailed(
            f"PyTorch can't compile the network. Received: {describe(exc)}"
        ) from exc
    return {precision: path}


def _unpack(package: Path, folder: Path) -> None:
    """Write what the loader reads of a package: the library and its metadata, without the source code."""
    with zipfile.ZipFile(package) as archive:
        for name in archive.namelist():
            _, found, file = name.partition(PART)
            if found and not file.endswith(".cpp"):
                (folder / PART).mkdir(parents=True, exist_ok=True)
                (folder / PART / file).write_bytes(archive.read(name))
