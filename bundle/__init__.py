"""The contract between training and serving: a servable model on disk, and its preprocessing.

The path of an image, with the module behind each arrow:

    bytes --imaging.decode--> RGB --imaging.geometry--> uint8 [H, W, 3]
          --worker, runtimes--> logits --scores--> labelled scores

The path of a model:

    folder --format.manifest, format.repository--> verified record
           --worker, runtimes--> ready process

The names in `__all__` are the public API. They are imported on first use, so that importing this
package costs nothing. Neither torch nor tensorflow is imported here; each runs in a child process.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bundle.errors import (
        AccelerationFailed,
        BundleError,
        GoldenMismatch,
        ImageError,
        ImagesInvalid,
        ImageTooLarge,
        IntegrityFailed,
        ManifestInvalid,
        RuntimeUnavailable,
        UnreadableImage,
        UnsupportedImageType,
        WorkerDied,
    )
    from bundle.format.manifest import Input, Manifest, read_manifest
    from bundle.format.repository import BundleRef, IgnoredFolder, list_bundles, scan, verify_files
    from bundle.format.writer import BundleWriter
    from bundle.imaging.decode import DecodedImage, ImageLimits, decode_image, read_input
    from bundle.scores import Prediction, calibrated_softmax, top_k
    from bundle.worker.blocking import RuntimeProcess
    from bundle.worker.responses import RuntimeInfo

__all__ = [
    "AccelerationFailed",
    "BundleError",
    "BundleRef",
    "BundleWriter",
    "DecodedImage",
    "GoldenMismatch",
    "IgnoredFolder",
    "ImageError",
    "ImageLimits",
    "ImageTooLarge",
    "ImagesInvalid",
    "Input",
    "IntegrityFailed",
    "Manifest",
    "ManifestInvalid",
    "Prediction",
    "RuntimeInfo",
    "RuntimeProcess",
    "RuntimeUnavailable",
    "UnreadableImage",
    "UnsupportedImageType",
    "WorkerDied",
    "calibrated_softmax",
    "decode_image",
    "list_bundles",
    "read_input",
    "read_manifest",
    "scan",
    "top_k",
    "verify_files",
]

# Where the names above are defined; those that import the least come first.
_MODULES = (
    "bundle.errors",
    "bundle.scores",
    "bundle.format.manifest",
    "bundle.format.repository",
    "bundle.format.writer",
    "bundle.imaging.decode",
    "bundle.worker.model_process",
    "bundle.worker.blocking",
)


def __getattr__(name: str) -> object:
    if name in __all__:
        for module in map(import_module, _MODULES):
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
