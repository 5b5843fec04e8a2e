"""What can go wrong between the page and the service.

ServiceError
  ServiceUnreachable   no connection, or a broken one
    ServiceTimeout     connected, but no response within the time limit
  Refused              the service responded with a problem: status, code, detail
  UnexpectedResponse   a response that is not one of the service
"""

from __future__ import annotations

from frontend.responses import Problem


class ServiceError(Exception):
    """No usable response; the text says what happened."""


class ServiceUnreachable(ServiceError):
    """No connection to the service, or a broken one."""


class ServiceTimeout(ServiceUnreachable):
    """The service accepted the connection but did not respond in time."""


class Refused(ServiceError):
    """The service responded with a problem.

    Attributes:
        problem: the problem document.
        retry_after: seconds of the Retry-After header; None without one.
    """

    def __init__(self, problem: Problem, retry_after: int | None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.retry_after = retry_after


class UnexpectedResponse(ServiceError):
    """A response that is not one of the service: another program, a proxy, another version."""
