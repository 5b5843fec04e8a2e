"""A typed client of the service over a `requests.Session` that the caller hands in.

Errors:

    ServiceError
      ServiceUnreachable   no connection, or a broken one
        ServiceTimeout     connected, but no response within the time limit
      Refused              the service responded with a problem: status, code, detail
      UnexpectedResponse   a response that is not one of the service
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TypeVar

import requests
from pydantic import ValidationError
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from frontend.responses import ModelList, PredictResponse, Problem, Readiness, ResponseBody

# Seconds to connect, and between two bytes of the response.
GET_TIMEOUT = (3.0, 5.0)
# The service itself gives up on an image sooner, so that its own error text arrives.
PREDICT_TIMEOUT = (3.0, 65.0)
PROBLEM_TYPE = "application/problem+json"

Body = TypeVar("Body", bound=ResponseBody)


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


@dataclass(frozen=True)
class TimedPrediction:
    """A response, and the milliseconds until it arrived, network included."""

    response: PredictResponse
    round_trip_ms: float


def open_session(
    url: str, api_key: str | None = None, ca_bundle: str | None = None
) -> requests.Session:
    """Make a session for the service at `url`; it retries failed connections of GET, not of POST.

    It sends the API key with every request, if there is one. With `ca_bundle`, a PEM file, it
    trusts the authorities in there, in place of the usual ones. Three attempts with backoff cover a
    restarting service; more would turn an outage into a storm.
    """
    session = requests.Session()
    # A proxy in the environment is for the internet; the service is on the local network.
    session.trust_env = False
    session.verify = ca_bundle or True
    if api_key is not None:
        session.headers["Authorization"] = f"Bearer {api_key}"
    # False: the first error of a kind is raised as it is. Without the last argument urllib3 would
    # sleep for Retry-After and retry, before the visitor sees that the service is busy.
    retries = Retry(
        connect=2,
        read=False,
        redirect=False,
        other=False,
        backoff_factor=0.2,
        respect_retry_after_header=False,
    )
    session.mount(url, HTTPAdapter(max_retries=retries))
    # The longest prefix wins. urllib3 retries failed connections of any method; POST gets its own.
    session.mount(f"{url}/predict", HTTPAdapter(max_retries=0))
    return session


class ServiceClient:
    """The requests that the page makes.

    Args:
        session: carries the requests; `open_session` makes the usual one.
        url: root of the service without a trailing slash.
        get_timeout: seconds to connect, and between two bytes of the response, of a GET.
    """

    def __init__(
        self,
        session: requests.Session,
        url: str,
        get_timeout: tuple[float, float] = GET_TIMEOUT,
    ) -> None:
        self.url = url
        self._session = session
        self._get_timeout = get_timeout

    def readiness(self) -> Readiness:
        """Check that the service accepts images.

        Raises:
            Refused: with status 503 while it loads or drains.
            ServiceError: any other class of the tree above.
        """
        return self._parse(self._send("GET", "/readyz", timeout=self._get_timeout), Readiness)

    def models(self) -> ModelList:
        """List the models of the service, ready or not.

        Raises:
            ServiceError: any class of the tree above.
        """
        return self._parse(self._send("GET", "/models", timeout=self._get_timeout), ModelList)

    def predict(self, image: bytes, *, model: str, version: int, top_k: int) -> TimedPrediction:
        """Send one encoded image as it is and return the `top_k` best labels.

        Raises:
            ServiceError: any class of the tree above.
        """
        start = time.perf_counter()
        response = self._send(
            "POST",
            "/predict",
            timeout=PREDICT_TIMEOUT,
            params={"model": model, "version": str(version), "top_k": str(top_k)},
            data=image,
            # The service looks at the bytes, so the page does not prediction the type.
            headers={"Content-Type": "application/octet-stream"},
        )
        round_trip_ms = (time.perf_counter() - start) * 1000
        return TimedPrediction(self._parse(response, PredictResponse), round_trip_ms)

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
            raise ServiceUnreachable(
                f"No connection to {self.url} within {timeout[0]:g} seconds."
            ) from exc
        except requests.Timeout as exc:
            raise ServiceTimeout(
                f"No response from {self.url} within {timeout[1]:g} seconds."
            ) from exc
        except requests.exceptions.SSLError as exc:
            raise ServiceUnreachable(
                f"{self.url} has no certificate that this page trusts, or does not speak HTTPS. "
                "REQUESTS_CA_BUNDLE names the certificate of its authority."
            ) from exc
        except requests.ConnectionError as exc:
            raise ServiceUnreachable(
                f"Nothing answers at {self.url}, or the connection was cut."
            ) from exc
        except requests.RequestException as exc:
            raise UnexpectedResponse(
                f"The response of {self.url} could not be read ({type(exc).__name__})."
            ) from exc
        if response.status_code != 200:
            raise self._refusal(response)
        return response

    def _parse(self, response: requests.Response, kind: type[Body]) -> Body:
        try:
            return kind.model_validate_json(response.content)
        except ValidationError as exc:
            field = ".".join(str(part) for part in exc.errors()[0]["loc"]) or "the document"
            raise UnexpectedResponse(
                f"The response of {self.url} is not what this page expects: "
                f"{field} is missing or invalid. "
                "The page and the service may be of different versions."
            ) from exc

    def _refusal(self, response: requests.Response) -> ServiceError:
        if response.headers.get("Content-Type", "").split(";")[0].strip().lower() == PROBLEM_TYPE:
            try:
                problem = Problem.model_validate_json(response.content)
            except ValidationError:
                pass  # a problem without the agreed fields is as unexpected as any other text
            else:
                wait = response.headers.get("Retry-After", "")
                return Refused(problem, int(wait) if wait.isascii() and wait.isdigit() else None)
        return UnexpectedResponse(
            f"{self.url} responded with status {response.status_code} and no problem document. "
            "Another program may be listening there. Check SERVICE_URL."
        )
