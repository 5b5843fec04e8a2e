"""Every error of this package.

::

    BundleError                  a folder that cannot be served
        ManifestInvalid          500 manifest_invalid
        IntegrityFailed          500 integrity_failed
        GoldenMismatch           500 golden_mismatch
        RuntimeUnavailable       500 runtime_unavailable
        WorkerDied               503 worker_died
        AccelerationFailed       500 acceleration_failed
    ImageError                   an upload that cannot be classified
        UnsupportedImageType     415 unsupported_image_type
        ImageTooLarge            413 image_too_large
        UnreadableImage          422 unreadable_image

Where each one stands on the two paths::

    folder -> ManifestInvalid -> record -> IntegrityFailed -> verified files -> RuntimeUnavailable
           -> loaded model -> GoldenMismatch -> ready process -> WorkerDied
    bundle -> AccelerationFailed -> bundle with accelerated artifacts
    bytes  -> UnsupportedImageType -> header -> ImageTooLarge -> decoder -> UnreadableImage -> pixels

``str(error)`` is the detail: what happened, what is expected, how to fix it, the offending value last.
Mistakes of the calling program (a wrong shape, a wrong dtype) are ``ValueError`` and stay out of this tree.
"""

from __future__ import annotations

from typing import ClassVar


class BundleError(Exception):
    """A model bundle cannot be used. ``status`` is its HTTP status, ``code`` its stable machine code."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "bundle_error"


class ManifestInvalid(BundleError):
    """The manifest is not valid JSON of the known schema, or names an unsafe path."""

    code = "manifest_invalid"


class IntegrityFailed(BundleError):
    """The files of the bundle differ from the manifest: size, sha256, a missing or extra file, a symlink."""

    code = "integrity_failed"


class GoldenMismatch(BundleError):
    """The loaded model does not give the scores that were recorded when the bundle was written."""

    code = "golden_mismatch"


class RuntimeUnavailable(BundleError):
    """The framework or the device is missing, or the artifact does not load or run."""

    code = "runtime_unavailable"


class AccelerationFailed(BundleError):
    """The source artifact could not be converted for another runtime; the bundle is as it was."""

    code = "acceleration_failed"


class WorkerDied(BundleError):
    """The process that runs the model ended or did not answer in time; the caller may start another."""

    status = 503
    code = "worker_died"


class ImageError(Exception):
    """An uploaded picture cannot be used. ``status`` is its HTTP status, ``code`` its stable machine code."""

    status: ClassVar[int] = 422
    code: ClassVar[str] = "image_error"


class UnsupportedImageType(ImageError):
    """The first bytes are those of none of the six formats that are read."""

    status = 415
    code = "unsupported_image_type"


class ImageTooLarge(ImageError):
    """Bytes, pixels, side, aspect ratio or JPEG scans exceed a limit."""

    status = 413
    code = "image_too_large"


class UnreadableImage(ImageError):
    """The image is truncated or corrupt, or the decoder rejected it."""

    code = "unreadable_image"


BUNDLE_ERRORS: dict[str, type[BundleError]] = {
    error.code: error
    for error in (ManifestInvalid, IntegrityFailed, GoldenMismatch, RuntimeUnavailable, WorkerDied)
}
"""Bundle errors by code: how an error crosses from the worker process to its parent."""

IMAGE_ERRORS: dict[str, type[ImageError]] = {
    error.code: error for error in (UnsupportedImageType, ImageTooLarge, UnreadableImage)
}
"""Image errors by code: how an error crosses from a decoder process to its parent."""
