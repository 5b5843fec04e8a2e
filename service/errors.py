"""What can go wrong with a request, each error on its arrow of the request path.

    ServiceError
        NotFound, MethodNotAllowed                  request → route
        Unauthorized, UnknownKey, Forbidden         request → client
        RateLimited                                 client → route
        RequestTimeout, RequestTooLarge             socket → body
        MalformedRequest, UnsupportedMediaType      body → bytes of an image
        UnknownParameter, InvalidParameter          query → parameters
        UnknownModel, UnknownVersion, NoCard        parameters → model
        NoHeatmap, NoEmbedding, NoPredictionSets,
        NoWholePicture                              model → what it can do
        FeedbackOff, FeedbackFull                   body → file of feedback
        DecodeTimeout, DecoderUnavailable           bytes → pixels (with bundle.errors.ImageError)
        QueueFull, DeadlineUnreachable              pixels → queue
        ModelUnavailable, ModelRefused (and for its
        signature SignatureRefused)                 queue → scores
        DeadlineExceeded                            socket → scores
        NotReady, Draining                          readiness
        InternalError                               anything else; the cause is in the log

`service.api.problems` gives each its HTTP status and title. The docstrings are the meanings in the
OpenAPI description.
"""

from __future__ import annotations

from typing import ClassVar

from bundle.errors import BundleError, ImageError, SignatureInvalid


class ServiceError(Exception):
    """Base class: `str(error)` is the detail for the client, `code` is stable.

    `retry_after_s` is known for some errors only; the table of problems has one for the others.
    """

    code: ClassVar[str]
    retry_after_s: int | None = None
    # The rest of the body is not read, so the connection is closed.
    closes: bool = False


class InternalError(ServiceError):
    """A defect of the service; its log has the cause under the request id."""

    code = "internal_error"


class NotFound(ServiceError):
    """There is no such route."""

    code = "not_found"


class MethodNotAllowed(ServiceError):
    """The route exists, but not for this method."""

    code = "method_not_allowed"


class Unauthorized(ServiceError):
    """The route needs an API key, and the request has none."""

    code = "unauthorized"


class UnknownKey(ServiceError):
    """The API key of the request is none of this service."""

    code = "unknown_key"


class Forbidden(ServiceError):
    """The route is for administrators, and the API key is not that of one."""

    code = "forbidden"


class RateLimited(ServiceError):
    """The client is over the limit of requests or bytes per second that its API key has."""

    code = "rate_limited"


class RequestTimeout(ServiceError):
    """The request did not arrive in full in time; the connection is closed."""

    code = "request_timeout"


class RequestTooLarge(ServiceError):
    """The body is larger than the route or the API key accepts; it is not read."""

    code = "request_too_large"
    closes = True


class MalformedRequest(ServiceError):
    """The body does not match its content type, lacks the image field, or has too many files."""

    code = "malformed_request"


class UnsupportedMediaType(ServiceError):
    """The content type is none of those that the route accepts."""

    code = "unsupported_media_type"


class InvalidParameter(ServiceError):
    """A query or path parameter is out of range or of the wrong type."""

    code = "invalid_parameter"


class UnknownParameter(ServiceError):
    """The route has no query parameter of this name."""

    code = "unknown_parameter"


class NoPredictionSets(ServiceError):
    """The query has `coverage`, and the model has no record of prediction sets."""

    code = "no_prediction_sets"


class UnknownModel(ServiceError):
    """No model has this name."""

    code = "unknown_model"


class UnknownVersion(ServiceError):
    """The model has no such version."""

    code = "unknown_version"


class NoCard(ServiceError):
    """The bundle of the model has no model card."""

    code = "no_card"


class NoHeatmap(ServiceError):
    """The bundle of the model has no heat maps."""

    code = "no_heatmap"


class NoEmbedding(ServiceError):
    """The network of the model has no embedding: it does not end with a linear layer."""

    code = "no_embedding"


class NoWholePicture(ServiceError):
    """Whole pictures were not measured with the model."""

    code = "no_whole_picture"


class FeedbackOff(ServiceError):
    """The service keeps no feedback."""

    code = "feedback_off"


class FeedbackFull(ServiceError):
    """The file of feedback has reached its limit, or can't be written."""

    code = "feedback_full"


class DecodeTimeout(ServiceError):
    """Decoding the image exceeded the time limit; its decoder was killed."""

    code = "decode_timeout"


class QueueFull(ServiceError):
    """The queue of the model or the memory for request bodies is full."""

    code = "queue_full"


class DeadlineUnreachable(ServiceError):
    """What waits already takes longer than the time that the request has."""

    code = "deadline_unreachable"


class DeadlineExceeded(ServiceError):
    """There is no result within the time that the client set."""

    code = "deadline_exceeded"


class DecoderUnavailable(ServiceError):
    """No decoder process can be started."""

    code = "decoder_unavailable"


class ModelUnavailable(ServiceError):
    """It is loading or unloaded, its process died twice on this request, or its bundle is new."""

    code = "model_unavailable"


class ModelRefused(ServiceError):
    """The bundle failed verification or was not loaded in time; the detail says how to fix it."""

    code = "model_refused"


class SignatureRefused(ModelRefused):
    """The bundle is not signed by a trusted signer, or was changed since; it is not loaded."""

    code = SignatureInvalid.code


class NotReady(ServiceError):
    """Models are loading, or there is no default model that serves."""

    code = "not_ready"


class Draining(ServiceError):
    """The service is shutting down and only finishes requests in flight."""

    code = "draining"


Failure = ServiceError | BundleError | ImageError
"""Every error that a client receives as a problem."""
