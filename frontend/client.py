"""A typed client of the service over a `requests.Session` that the caller hands in.

Errors:

    ServiceError
      ServiceAway        nothing answers at the URL, or not in time
        ServiceSlow      connected, but no answer within the time limit
      Refused            the service answered with a problem: status, code, detail
      UnexpectedAnswer   something answered, but not as the service does
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TypeVar

import requests
from pydantic import ValidationError
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from frontend.answers import Answer, Catalogue, Prediction, Problem, Readiness

LOOK = (3.0, 5.0)  # seconds to connect, and between two bytes, for a GET
ASK = (
    3.0,
    65.0,
)  # the service itself gives up on a picture sooner; waiting longer keeps its own error text
PROBLEM_TYPE = "application/problem+json"

A = TypeVar("A", bound=Answer)


class ServiceError(Exception):
    """The service gave no usable answer; the text says what happened."""


class ServiceAway(ServiceError):
    """Nothing answers at the URL of the service."""


class ServiceSlow(ServiceAway):
    """The service took the connection but did not answer in time."""


class Refused(ServiceError):
    """The service answered with a problem.

    Attributes:
        problem: the problem document.
        retry_after: seconds after which trying again makes sense, if the service said so.
    """

    def __init__(self, problem: Problem, retry_after: int | None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.retry_after = retry_after


class UnexpectedAnswer(ServiceError):
    """Something answered that does not speak as the service does (another program, a proxy, another version)."""


@dataclass(frozen=True)
class Asked:
    """A prediction, and the time in milliseconds that the caller waited for it, network included."""

    prediction: Prediction
    round_trip_ms: float


def open_session(url: str) -> requests.Session:
    """Make a session for the service at `url`: lost connections are retried on reads, never on pictures.

    Three attempts with growing pauses cover a restarting service; more would turn an outage into a storm.
    """
    session = requests.Session()
    # A proxy named in the environment is for the internet; the service is a neighbour.
    session.trust_env = False
    # False hands the first error of a kind through as it is. Without the last argument urllib3 would sleep for
    # Retry-After and ask again by itself, before the visitor sees that the service is busy.
    lost = Retry(
        connect=2,
        read=False,
        redirect=False,
        other=False,
        backoff_factor=0.2,
        respect_retry_after_header=False,
    )
    session.mount(url, HTTPAdapter(max_retries=lost))
    # The longest prefix wins. urllib3 retries a failed connection whatever the method, so POST has its own adapter.
    session.mount(f"{url}/predict", HTTPAdapter(max_retries=0))
    return session


class ServiceClient:
    """The calls that the page makes.

    Args:
        session: carries the requests; `open_session` makes the usual one.
        url: root of the service without a trailing slash.
    """

    def __init__(self, session: requests.Session, url: str) -> None:
        self.url = url
        self._session = session

    def readiness(self) -> Readiness:
        """Ask whether the service takes pictures. Raises `Refused` with 503 while it loads or drains."""
        return self._parse(self._send("GET", "/readyz", timeout=LOOK), Readiness)

    def models(self) -> Catalogue:
        """List what the service holds, ready or not. Raises `ServiceError`."""
        return self._parse(self._send("GET", "/models", timeout=LOOK), Catalogue)

    def predict(self, image: bytes, *, model: str, version: int, top_k: int) -> Asked:
        """Send one encoded picture as it is and return the `top_k` best labels.

        Raises:
            ServiceError: any class of the tree above.
        """
        start = time.perf_counter()
        response = self._send(
            "POST",
            "/predict",
            timeout=ASK,
            params={"model": model, "version": str(version), "top_k": str(top_k)},
            data=image,
            # The service looks at the bytes, so the page does not guess the type.
            headers={"Content-Type": "application/octet-stream"},
        )
        waited = (time.perf_counter() - start) * 1000
        return Asked(self._parse(response, Prediction), waited)

    def _send(
        self,
        method: str,
        path: str,
        *,
        timeout: tuple[float, float],
        params: dict[str, str] | None = None,
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> requests.Response:
        try:
            response = self._session.request(
                method,
                self.url + path,
                timeout=timeout,
                params=params,
                data=data,
                headers={"Accept": "application/json", **(headers or {})},
                allow_redirects=False,
            )
        except requests.ConnectTimeout as exc:
            raise ServiceAway(
                f"No connection to {self.url} within {timeout[0]:g} seconds."
            ) from exc
        except requests.Timeout as exc:
            raise ServiceSlow(f"No answer from {self.url} within {timeout[1]:g} seconds.") from exc
        except requests.ConnectionError as exc:
            raise ServiceAway(f"Nothing answers at {self.url}, or the connection was cut.") from exc
        except requests.RequestException as exc:
            raise UnexpectedAnswer(
                f"The answer of {self.url} could not be read ({type(exc).__name__})."
            ) from exc
        if response.status_code != 200:
            raise self._refusal(response)
        return response

    def _parse(self, response: requests.Response, kind: type[A]) -> A:
        try:
            return kind.model_validate_json(response.content)
        except ValidationError as exc:
            place = ".".join(str(part) for part in exc.errors()[0]["loc"]) or "the document"
            raise UnexpectedAnswer(
                f"{self.url} answered, but not as this page expects: {place} is missing or not valid. "
                "The page and the service may be of different versions."
            ) from exc

    def _refusal(self, response: requests.Response) -> ServiceError:
        if response.headers.get("Content-Type", "").split(";")[0].strip().lower() == PROBLEM_TYPE:
            try:
                problem = Problem.model_validate_json(response.content)
            except ValidationError:
                pass  # falls through: a problem without the agreed fields is as foreign as any other text
            else:
                wait = response.headers.get("Retry-After", "")
                return Refused(problem, int(wait) if wait.isascii() and wait.isdigit() else None)
        return UnexpectedAnswer(
            f"{self.url} answered with status {response.status_code} and no problem document. "
            "Another program may be listening there. Check SERVICE_URL."
        )
