"""Every error of this package.

    BundleError                  a bundle that cannot be served
        ManifestInvalid          manifest_invalid
        SignatureInvalid         signature_invalid
        SignersInvalid           signers_invalid
        IntegrityFailed          integrity_failed
        GoldenMismatch           golden_mismatch
        RuntimeUnavailable       runtime_unavailable
        WorkerDied               worker_died
        ImagesInvalid            images_invalid
        AccelerationFailed       acceleration_failed
        ImportFailed             import_failed
        SigningFailed            signing_failed
    ImageError                   an image that cannot be classified
        UnsupportedImageType     unsupported_image_type
        ImageTooLarge            image_too_large
        UnreadableImage          unreadable_image

Where each one stands on the two paths:

    folder -> SignatureInvalid -> signed manifest, if signatures are required (SignersInvalid)
    folder -> ManifestInvalid -> manifest -> IntegrityFailed -> verified files
           -> RuntimeUnavailable -> loaded model -> GoldenMismatch -> ready process -> WorkerDied
    folder of images -> ImagesInvalid -> pixels and labels to measure a bundle with
    bundle -> AccelerationFailed -> bundle with accelerated artifacts
    bundle -> SigningFailed -> signed bundle
    file   -> ImportFailed -> bundle
    bytes  -> UnsupportedImageType -> header -> ImageTooLarge -> decoder -> UnreadableImage
           -> pixels

`str(error)` is the detail: what happened, what is expected, how to fix it, the offending value.
Errors cross process boundaries as their `code` and detail. Mistakes of the calling program (a wrong
shape, a wrong dtype) are `ValueError` and not in these trees.
"""

from __future__ import annotations

import re
from typing import ClassVar

# The folders at the start of an absolute path, with spaces where it is quoted. A URL has none.
_FOLDERS = re.compile(r"(?<=['\"])/[^'\"]*/(?=[^/'\"])|(?<![\w.:/])(?:/[^/\s'\":]+)+/(?=[^/\s])")


class BundleError(Exception):
    """A model bundle cannot be used."""

    code: ClassVar[str] = "bundle_error"


class ManifestInvalid(BundleError):
    """The manifest is not valid JSON of the known schema, or names an unsafe path."""

    code = "manifest_invalid"


class SignatureInvalid(BundleError):
    """The bundle is not signed, not by a trusted signer, or was changed since it was signed."""

    code = "signature_invalid"


class SignersInvalid(BundleError):
    """The keys and certificates of the trusted signers can't be used."""

    code = "signers_invalid"


class SigningFailed(BundleError):
    """The bundle could not be signed: the key, the certificate or the package is not usable."""

    code = "signing_failed"


class IntegrityFailed(BundleError):
    """The files differ from the manifest: size, sha256, a missing or extra file, a symlink."""

    code = "integrity_failed"


class GoldenMismatch(BundleError):
    """The loaded model does not reproduce the scores recorded when the bundle was written."""

    code = "golden_mismatch"


class RuntimeUnavailable(BundleError):
    """The framework or the device is missing, or the artifact does not load or run."""

    code = "runtime_unavailable"


class ImagesInvalid(BundleError):
    """A folder of images is empty, is not of the model's labels, or has an unreadable image."""

    code = "images_invalid"


class AccelerationFailed(BundleError):
    """The source artifact could not be converted for another runtime; the bundle is unchanged."""

    code = "acceleration_failed"


class ImportFailed(BundleError):
    """The file is no image classifier that can be imported, or an option is missing or wrong."""

    code = "import_failed"


class WorkerDied(BundleError):
    """The process that runs the model ended or timed out; a new one may be started."""

    code = "worker_died"


class ImageError(Exception):
    """An image cannot be used."""

    code: ClassVar[str] = "image_error"


class UnsupportedImageType(ImageError):
    """The file does not begin like any of the eight supported formats."""

    code = "unsupported_image_type"


class ImageTooLarge(ImageError):
    """Bytes, pixels, side, aspect ratio or JPEG scans exceed a limit."""

    code = "image_too_large"


class UnreadableImage(ImageError):
    """The image is truncated or corrupt, or the decoder rejected it."""

    code = "unreadable_image"


BUNDLE_ERRORS: dict[str, type[BundleError]] = {
    error.code: error
    for error in (
        ManifestInvalid,
        SignatureInvalid,
        SignersInvalid,
        IntegrityFailed,
        GoldenMismatch,
        RuntimeUnavailable,
        WorkerDied,
    )
}
"""Bundle errors by code: how an error crosses from the worker process to its parent."""

IMAGE_ERRORS: dict[str, type[ImageError]] = {
    error.code: error for error in (UnsupportedImageType, ImageTooLarge, UnreadableImage)
}
"""Image errors by code: how an error crosses from a decoder process to its parent."""


def without_folders(text: str) -> str:
    """The text with absolute paths reduced to their last part, because clients may read it."""
    return _FOLDERS.sub("", text)
