"""What a request can meet, each error on its arrow of the request path.

    ServiceError
        NotFound 404, MethodNotAllowed 405          request → route
        RequestTimeout 408, RequestTooLarge 413     socket → body
        MalformedRequest 400, UnsupportedMediaType 415   body → bytes of an image
        UnknownParameter 422, InvalidParameter 422  query → parameters
        UnknownModel 404, UnknownVersion 404        parameters → model
        DecodeTimeout 422                           bytes → pixels (with bundle.errors.ImageError)
        DecoderUnavailable 503
        QueueFull 429                               pixels → queue
        ModelUnavailable 503, ModelRefused 503      queue → scores
        NotReady 503, Draining 503                  readiness
        InternalError 500                           anything else; its text stays in the log

Each class carries its status and its stable code; `docs/errors.md` lists them all, and a test holds it to them.
"""

from __future__ import annotations

from typing import ClassVar

from bundle import errors as bundle_errors


class ServiceError(Exception):
    """Base class: `str(error)` is the detail that the client reads."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"
    retry_after_s: ClassVar[int | None] = None  # value of the header Retry-After, in seconds


class NotFound(ServiceError):
    """There is no such route."""

    status, code, title = 404, "not_found", "Not found"


class MethodNotAllowed(ServiceError):
    """The route exists, with other methods."""

    status, code, title = 405, "method_not_allowed", "Method not allowed"


class RequestTimeout(ServiceError):
    """The request has not arrived in full in time; the connection is closed."""

    status, code, title = 408, "request_timeout", "Request timeout"


class RequestTooLarge(ServiceError):
    """The body is longer than the route takes; it is not read."""

    status, code, title = 413, "request_too_large", "Request too large"


class MalformedRequest(ServiceError):
    """The body is not what its content type says, lacks the field of the image, or has more files than are taken."""

    status, code, title = 400, "malformed_request", "Malformed request"


class UnsupportedMediaType(ServiceError):
    """The content type is neither multipart/form-data nor an image."""

    status, code, title = 415, "unsupported_media_type", "Unsupported media type"


class InvalidParameter(ServiceError):
    """A query or path parameter is out of range or of the wrong type."""

    status, code, title = 422, "invalid_parameter", "Invalid parameter"


class UnknownParameter(ServiceError):
    """The route has no query parameter of this name."""

    status, code, title = 422, "unknown_parameter", "Unknown parameter"


class UnknownModel(ServiceError):
    """No model has this name."""

    status, code, title = 404, "unknown_model", "Unknown model"


class UnknownVersion(ServiceError):
    """The model has no such version."""

    status, code, title = 404, "unknown_version", "Unknown version"


class DecodeTimeout(ServiceError):
    """The image takes longer to decode than the limit; its decoder has been killed."""

    status, code, title = 422, "decode_timeout", "Image takes too long to decode"


class QueueFull(ServiceError):
    """As many images wait as the queue holds."""

    status, code, title, retry_after_s = 429, "queue_full", "Queue full", 1


class DecoderUnavailable(ServiceError):
    """No process that decodes images can be started."""

    status, code, title, retry_after_s = 503, "decoder_unavailable", "Decoder unavailable", 2


class ModelUnavailable(ServiceError):
    """The process of the model is being started, has died under this request twice, or has another bundle now."""

    status, code, title, retry_after_s = 503, "model_unavailable", "Model unavailable", 2


class ModelRefused(ServiceError):
    """The bundle has not passed its verification, or could not be loaded in time; the text says what to mend before a restart."""

    status, code, title, retry_after_s = 503, "model_refused", "Model refused", 60


class NotReady(ServiceError):
    """Models are being loaded, or the default one is not there."""

    status, code, title, retry_after_s = 503, "not_ready", "Not ready", 2


class Draining(ServiceError):
    """The service is shutting down and finishes what it has."""

    status, code, title, retry_after_s = 503, "draining", "Draining", 5


BUNDLE_TITLES: dict[type[Exception], str] = {
    bundle_errors.UnsupportedImageType: "Unsupported image type",
    bundle_errors.ImageTooLarge: "Image too large",
    bundle_errors.UnreadableImage: "Unreadable image",
    bundle_errors.ManifestInvalid: "Manifest invalid",
    bundle_errors.IntegrityFailed: "Integrity check failed",
    bundle_errors.GoldenMismatch: "Golden samples differ",
    bundle_errors.RuntimeUnavailable: "Runtime unavailable",
    bundle_errors.WorkerDied: "Worker died",
}


def catalogue() -> dict[str, tuple[int, str, str]]:
    """Code → (status, title, meaning) of every problem that a client can receive."""
    entries = {
        error.code: (error.status, error.title, (error.__doc__ or "").strip())
        for error in ServiceError.__subclasses__()
    }
    for error in (
        bundle_errors.UnsupportedImageType,
        bundle_errors.ImageTooLarge,
        bundle_errors.UnreadableImage,
        bundle_errors.RuntimeUnavailable,
    ):
        entries[error.code] = (error.status, BUNDLE_TITLES[error], (error.__doc__ or "").strip())
    internal = "A defect of the service; its log holds the reason under the request id."
    return entries | {ServiceError.code: (ServiceError.status, ServiceError.title, internal)}
