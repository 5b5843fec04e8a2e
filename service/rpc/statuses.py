"""Failures as gRPC shows them: a status, a text, and the code of the problem beside it."""

from __future__ import annotations

from grpc import StatusCode

from service.api.problems import PROBLEMS
from service.errors import Failure, ServiceError

# By the status of HTTP; other ones are mistakes of the client, or defects of the service.
BY_HTTP = {
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.NOT_FOUND,
    408: StatusCode.DEADLINE_EXCEEDED,
    429: StatusCode.RESOURCE_EXHAUSTED,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.DEADLINE_EXCEEDED,
}
# Of a text: clients accept about 8 KiB of metadata, and a character may take 3 bytes there.
MAX_TEXT = 2_000

Metadata = tuple[tuple[str, str], ...]


def http_status(error: Failure) -> int:
    """The status that HTTP has for an error, for the log and the metrics."""
    return PROBLEMS[type(error)].status


def status(error: Failure) -> StatusCode:
    """The status of gRPC for an error."""
    number = http_status(error)
    other = StatusCode.INVALID_ARGUMENT if number < 500 else StatusCode.INTERNAL
    return BY_HTTP.get(number, other)


def trailers(error: Failure) -> Metadata:
    """The code of the problem, and when to try again if that is known."""
    known = error.retry_after_s if isinstance(error, ServiceError) else None
    retry_after_s = known or PROBLEMS[type(error)].retry_after_s
    found: Metadata = (("problem-code", error.code),)
    if retry_after_s is None:
        return found
    # The second one is for the retries of gRPC's own libraries (gRFC A6).
    again = (("retry-after", retry_after_s), ("grpc-retry-pushback-ms", retry_after_s * 1000))
    return (*found, *((name, str(value)) for name, value in again))
