"""Answers from a running service, over HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import requests

from classify.answers import Answer, Prediction
from classify.errors import ImageRefused, Unusable

# To connect, and between two bytes of a response; a model may be loaded for as long.
TIMEOUT_S = (5.0, 120.0)
# How long a service that is busy or starts is asked again.
PATIENCE_S = 300.0
BUSY = (429, 503)
# They would come for every other file too.
OF_THE_CALLER = (400, 401, 403, 404, 405)


class ServiceModel:
    """A model of a service. Its methods are thread-safe.

    Args:
        url: Of the service.
        model: `NAME` or `NAME@VERSION`; None: the default model.
        key: API key, if the service needs one.
        top_k: Predictions for each image.
        clock, sleep: Seconds.
    """

    def __init__(
        self,
        url: str,
        model: str | None,
        key: str | None,
        top_k: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._url = url.rstrip("/")
        name, _, version = (model or "").partition("@")
        self._query = {"model": name, "version": version}
        self._query = {field: value for field, value in self._query.items() if value}
        self._top_k = top_k
        self._session = requests.Session()
        if key:
            self._session.headers["Authorization"] = f"Bearer {key}"
        self._clock, self._sleep = clock, sleep

    def classify(self, name: str, data: bytes) -> Answer:
        """The answer for one file.

        Raises:
            ImageRefused: The service does not take this file.
            Unusable: It can't be reached, or would refuse every other file, too.
        """
        found = self._post("/predict", data, top_k=str(self._top_k)).json()
        model = found["model"]
        return Answer(
            name,
            f"{model['name']}/{model['version']}",
            [Prediction(**each) for each in found["predictions"]],
            found.get("uncertain"),
        )

    def explain(self, data: bytes) -> bytes:
        """Where the model looked: the image with a heat map, as PNG.

        Raises:
            ImageRefused, Unusable: As `classify`.
        """
        return self._post("/explain", data, accept="image/png").content

    def _post(
        self, path: str, data: bytes, accept: str = "application/json", **query: str
    ) -> requests.Response:
        ends = self._clock() + PATIENCE_S
        while True:
            try:
                response = self._session.post(
                    self._url + path,
                    params=self._query | query,
                    data=data,
                    headers={"Accept": accept},
                    timeout=TIMEOUT_S,
                )
            except requests.RequestException as exc:
                where = f"{self._url} ({type(exc).__name__})"
                raise Unusable(
                    f"No service answers at {where}. Expected --url with the address of one that "
                    "runs; or --bundle, without a service."
                ) from exc
            if response.status_code == 200:
                return response
            if response.status_code not in BUSY or self._clock() > ends:
                raise self._error(response)
            self._sleep(_seconds(response))

    def _error(self, response: requests.Response) -> ImageRefused | Unusable:
        problem = _problem(response)
        code, detail = problem.get("code"), str(problem.get("detail"))
        if code is None:
            return Unusable(
                f"What answers at {self._url} is not this service: status {response.status_code}."
            )
        if response.status_code in OF_THE_CALLER or response.status_code in BUSY:
            return Unusable(f"{code}: {detail}")
        return ImageRefused(str(code), detail)


def _problem(response: requests.Response) -> dict[str, Any]:
    try:
        found = response.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _seconds(response: requests.Response) -> float:
    """What the service says how long to wait; it computes that from its queue."""
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else 1.0
