"""Load an artifact into a running model. Each module imports its framework only inside `load`.

A new runtime is a module with the functions of `torchscript.py`, a line in `_MODULES` below, and
its format in `bundle/format/schema.py`; CONTRIBUTING.md has the whole list.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from bundle.errors import RuntimeUnavailable, without_folders
from bundle.format.manifest import Artifact

Device = Literal["auto", "cpu", "cuda"]
Logits = npt.NDArray[np.float32]
Heatmap = npt.NDArray[np.float32]
Embedding = npt.NDArray[np.float32]


class Outputs(NamedTuple):
    """What a forward pass of N images returns."""

    logits: Logits  # float32 [N, C]
    # Raw class activation maps float32 [N, h, w] (Zhou et al. 2016).
    heatmaps: Heatmap | None = None
    # What the last linear layer gets, float32 [N, D].
    embeddings: Embedding | None = None


class Model(Protocol):
    """A loaded artifact. `run` is thread-safe on a stream only."""

    runtime: str
    runtime_version: str
    device: str
    streams: int  # calls of `run` on a stream that run at once
    embedding: int | None  # D of the embeddings; None: the network has none

    @property
    def note(self) -> str:
        """What runs otherwise than it should on this machine; empty: nothing."""

    def run(
        self,
        pixels: npt.NDArray[np.uint8],
        class_index: npt.NDArray[np.int64] | None = None,
        *,
        embeddings: bool = False,
        on_stream: bool = False,
    ) -> Outputs:
        """One forward pass.

        Args:
            pixels: uint8 [N, H, W, 3].
            class_index: int64 [N], the classes whose heat maps are returned; None: no heat maps, as
                always where the manifest has none.
            embeddings: Return embeddings; the network has them.
            on_stream: Run on one inference stream, because other batches are in flight; else on all
                cores.
        """


_MODULES = {
    "torchscript": "bundle.runtimes.torchscript",
    "savedmodel": "bundle.runtimes.savedmodel",
    "openvino": "bundle.runtimes.openvino",
}
# The extra of pyproject.toml with the framework, and the target of docker/Dockerfile that has it.
_PROVIDERS = {
    "torchscript": ("torch", "service-torch"),
    "savedmodel": ("tensorflow", "service-tensorflow"),
    "openvino": ("openvino", "service"),
}


def load_model(
    bundle: Path,
    artifact: Artifact,
    device: Device,
    threads: int | None,
    compiled: Path | None = None,
) -> Model:
    """Load an artifact.

    Args:
        bundle: The bundle folder.
        artifact: One of the bundle's artifacts.
        device: `auto` is the first CUDA device where the framework has one, else the CPU.
        threads: CPU threads; None: the framework's default.
        compiled: A folder for this bundle alone, in which the runtime may cache what it compiles;
            None: no cache.

    Raises:
        RuntimeUnavailable: The framework is missing or fails; its error is chained.
    """
    module = importlib.import_module(_MODULES[artifact.format])
    try:
        model: Model = module.load(
            bundle / artifact.path, device, threads, artifact.precision, compiled
        )
    except RuntimeUnavailable:
        raise
    except ImportError as exc:
        extra, image = _PROVIDERS[artifact.format]
        raise RuntimeUnavailable(
            f"The framework for {artifact.format} is not installed. Install the extra {extra}, or "
            f"run the image {image}. Received: {describe(exc, bundle)}"
        ) from exc
    except Exception as exc:  # the frameworks raise any type, mostly RuntimeError and ValueError
        raise RuntimeUnavailable(
            f"The artifact {artifact.id!r} does not load. Export it again with this framework "
            f"version. Received: {describe(exc, bundle)}"
        ) from exc
    return model


def no_cuda(framework: str) -> RuntimeUnavailable:
    """The error for device `cuda` on a machine without one."""
    return RuntimeUnavailable(
        f"{framework} finds no CUDA device. Use device 'auto' or 'cpu', or install a CUDA build. "
        "Received: 'cuda'"
    )


def describe(exc: BaseException, folder: Path | None = None) -> str:
    """Class and first 500 characters of a framework's exception, on one line.

    Clients may read it, so paths are reduced to their last part, or to the part below `folder`.
    """
    text = (
        str(exc).replace(f"{folder}/", "").replace(str(folder), folder.name) if folder else str(exc)
    )
    text = without_folders(" ".join(text.split()))
    return f"{type(exc).__name__}: {text[:500]}"
