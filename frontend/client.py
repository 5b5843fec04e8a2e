"""A typed client of the service over a `requests.Session` that the caller hands in.

The errors are those of `frontend/errors.py`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote

import requests
from pydantic import ValidationError
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from frontend.cards import Card, Comparison
from frontend.errors import (
    Refused,
    ServiceError,
    ServiceTimeout,
    ServiceUnreachable,
    UnexpectedResponse,
)
from frontend.responses import (
    Explanation,
    ModelList,
    ModelRecord,
    PredictResponse,
    Problem,
    Readiness,
    ResponseBody,
)

# Seconds to connect, and between two bytes of the response.
GET_TIMEOUT = (3.0, 5.0)
# The service itself gives up on an image sooner, so that its own error text arrives.
PREDICT_TIMEOUT = (3.0, 65.0)
POSTED = ("/predict", "/explain", "/compare", "/feedback")
PROBLEM_TYPE = "application/problem+json"

Body = TypeVar("Body", bound=ResponseBody)


@dataclass(frozen=True)
class TimedPrediction:
    """A response, and the milliseconds until it arrived, network included."""

    response: PredictResponse
    round_trip_ms: float


def open_session(
    url: str,
    session: requests.Session | None = None,
    *,
    api_key: str | None = None,
    ca_bundle: str | None = None,
) -> requests.Session:
    """A session for the service at `url`, which retries failed connections of GET, not of POST.

    It sends the API key with every request, if there is one, and trusts the authorities of
    `ca_bundle`, if there is one, in place of the usual ones. Three attempts with backoff cover a
    restarting service; more would turn an outage into a storm.
    """
    session = session or requests.Session()
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
    for path in POSTED:
        session.mount(f"{url}{path}", HTTPAdapter(max_retries=0))
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
        return self._parse(self._get("/readyz"), Readiness)

    def models(self) -> ModelList:
        """List the models of the service, ready or not.

        Raises:
            ServiceError: any class of the tree above.
        """
        return self._parse(self._get("/models"), ModelList)

    def record(self, model: str, version: int) -> ModelRecord:
        """The labels and the input of one model.

        Raises:
            ServiceError: any class of the tree above.
        """
        return self._parse(self._get(f"/models/{quote(model)}", version=version), ModelRecord)

    def card(self, model: str, version: int) -> Card:
        """What was measured of one model, as its bundle has it.

        Raises:
            Refused: with status 404 where the bundle or the service has no cards.
            ServiceError: any other class of the tree above.
        """
        return self._parse(self._get(f"/models/{quote(model)}/card", version=version), Card)

    def metrics(self) -> str:
        """The metrics of the service in the text format of Prometheus.

        Raises:
            ServiceError: any class of the tree above.
        """
        return self._get("/metrics").text

    def predict(self, image: bytes, **query: str | int) -> TimedPrediction:
        """Send one encoded image as it is and return the best labels.

        Args:
            image: the file's bytes.
            query: parameters of `POST /predict`: model, version, top_k, crop, coverage.

        Raises:
            ServiceError: any class of the tree above.
        """
        start = time.perf_counter()
        response = self._post("/predict", image, query)
        round_trip_ms = (time.perf_counter() - start) * 1000
        return TimedPrediction(self._parse(response, PredictResponse), round_trip_ms)

    def explain(self, image: bytes, **query: str | int) -> Explanation:
        """Where the network looked for its best label.

        Raises:
            Refused: with status 422 where the model has no heat map, 404 on an older service.
            ServiceError: any other class of the tree above.
        """
        return self._parse(self._post("/explain", image, query), Explanation)

    def compare(self, image: bytes, **query: str | int) -> Comparison:
        """The answers of several models about one image.

        Raises:
            ServiceError: any class of the tree above.
        """
        return self._parse(self._post("/compare", image, query), Comparison)

    def takes_feedback(self) -> bool:
        """Whether the service keeps what visitors say about answers; asked with an empty document.

        Raises:
            ServiceError: the service is away, busy, or does not know this page.
        """
        try:
            self._send("POST", "/feedback", timeout=self._get_timeout, json={})
        except Refused as exc:
            if exc.problem.status in (400, 422):
                return True
            if exc.problem.status in (404, 405):
                return False
            raise
        return True

    def feedback(self, said: dict[str, object]) -> None:
        """Tell the service whether an answer was right.

        Raises:
            ServiceError: any class of the tree above.
        """
        self._send("POST", "/feedback", timeout=self._get_timeout, json=said)

    def _get(self, path: str, **query: int) -> requests.Response:
        return self._send("GET", path, timeout=self._get_timeout, params=_texts(query))

    def _post(self, path: str, image: bytes, query: Mapping[str, str | int]) -> requests.Response:
        return self._send(
            "POST",
            path,
            timeout=PREDICT_TIMEOUT,
            params=_texts(query),
            data=image,
            # The service looks at the bytes, so the page does not guess the type.
            headers={"Content-Type": "application/octet-stream"},
        )

    def _send(
        self,
        method: str,
        path: str,
        *,
        timeout: tuple[float, float],
        params: dict[str, str] | None = None,
        data: bytes | None = None,
        json: dict[str, object] | None = None,
        headers: dict[str, str] | None = None,
    ) -> requests.Response:
        try:
            response = self._session.request(
                method,
                self.url + path,
                timeout=timeout,
                params=params,
                data=data,
                json=json,
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
        if response.status_code not in (200, 204):
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


def _texts(query: Mapping[str, str | int]) -> dict[str, str]:
    return {name: str(value) for name, value in query.items()}
