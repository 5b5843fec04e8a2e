"""Loading an artifact into a running model. Each module imports its framework inside :func:`load` only."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from bundle.errors import RuntimeUnavailable
from bundle.format.manifest import Artifact

Device = Literal["auto", "cpu", "cuda"]
Logits = npt.NDArray[np.float32]
Heatmap = npt.NDArray[np.float32]
_FOLDERS = re.compile(
    r"(?<![\w.:/])(?:/[^/\s'\":]+)+/(?=[^/\s])"
)  # at the start of an absolute path


class Model(Protocol):
    """A loaded artifact. Not safe for concurrent calls, but for :meth:`infer_on_stream`."""

    runtime: str
    runtime_version: str
    device: str
    streams: int  # calls of infer_on_stream that are worked on at once, from as many threads

    def infer(self, pixels: npt.NDArray[np.uint8]) -> Logits:
        """uint8 [N, H, W, 3] to float32 logits [N, C], with all that the machine has."""

    def infer_on_stream(self, pixels: npt.NDArray[np.uint8]) -> Logits:
        """As :meth:`infer`, on one of the streams; other threads may have the others meanwhile."""

    def explain(
        self, pixels: npt.NDArray[np.uint8], class_index: npt.NDArray[np.int64]
    ) -> tuple[Logits, Heatmap]:
        """Also the raw class activation map of ``class_index`` [N]: float32 [N, h, w] (Zhou et al. 2016)."""


_MODULES = {
    "torchscript": "bundle.runtimes.torchscript",
    "savedmodel": "bundle.runtimes.savedmodel",
    "openvino": "bundle.runtimes.openvino",
}


def load_model(
    bundle: Path,
    artifact: Artifact,
    device: Device,
    threads: int | None,
    compiled: Path | None = None,
) -> Model:
    """Load ``artifact`` of the bundle folder on ``device``.

    ``auto`` is the first CUDA device where the framework sees one, else the CPU. ``threads`` bounds the
    CPU threads; None leaves the framework's default. ``compiled`` is a folder of this bundle alone, in which a
    runtime may keep what it compiles; None: it keeps nothing. Raises :class:`RuntimeUnavailable`, chained, for
    whatever the framework raises.
    """
    module = importlib.import_module(_MODULES[artifact.format])
    try:
        model: Model = module.load(
            bundle / artifact.path, device, threads, artifact.precision, compiled
        )
    except RuntimeUnavailable:
        raise
    except ImportError as exc:
        raise RuntimeUnavailable(
            f"The framework for {artifact.format} is not installed. Install the matching extra "
            f"(torch, tensorflow or openvino). Received: {exc}"
        ) from exc
    except (
        Exception
    ) as exc:  # the frameworks raise every kind, RuntimeError and ValueError above all
        raise RuntimeUnavailable(
            f"The artifact {artifact.id!r} does not load. Export it again with this framework version. "
            f"Received: {describe(exc, bundle)}"
        ) from exc
    return model


def no_cuda(framework: str) -> RuntimeUnavailable:
    """The error for ``device="cuda"`` on a machine without one."""
    return RuntimeUnavailable(
        f"{framework} sees no CUDA device. Use device 'auto' or 'cpu', or install a CUDA build. Received: 'cuda'"
    )


def describe(exc: BaseException, folder: Path | None = None) -> str:
    """Class and first 500 characters of a foreign exception, on one line.

    Clients may read it, so of paths it has only the last part, or what comes after `folder`.
    """
    text = (
        str(exc).replace(f"{folder}/", "").replace(str(folder), folder.name) if folder else str(exc)
    )
    text = _FOLDERS.sub("", " ".join(text.split()))
    return f"{type(exc).__name__}: {text[:500]}"
