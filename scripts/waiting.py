"""Asking the two servers whether they are there yet, with the standard library's HTTP client."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import Any

TIMEOUT_S = 5.0
REQUEST_ID = "is-it-there-yet"  # the service logs it with each of these requests, so that they can be told apart

# A proxy named in the environment is for the internet, not for this machine's own servers.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class NotYet(Exception):
    """The server does not answer yet, or answers that it is not ready; the text says what is awaited."""


def get(url: str) -> bytes:
    """The body of the answer to a GET. Raises NotYet unless it is a 200."""
    try:
        request = urllib.request.Request(url, headers={"X-Request-Id": REQUEST_ID})  # noqa: S310 - http only
        with _opener.open(request, timeout=TIMEOUT_S) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as exc:
        raise NotYet(_detail(exc.read()) or f"{url} answers {exc.code}") from exc
    except (OSError, http.client.HTTPException) as exc:
        raise NotYet(f"waiting for {url}") from exc


def service_state(url: str) -> str:
    """One line about the models of a service that is ready. Raises NotYet with what it still loads."""
    try:
        ready = json.loads(get(f"{url}/readyz"))
    except NotYet as exc:
        raise NotYet(_loading(url) or str(exc)) from exc
    models = ", ".join(f"{model['name']} version {model['version']}" for model in ready["models"])
    refused = "".join(
        f"\n         refused {m['name']} version {m['version']}: {m['reason']}"
        for m in ready["refused"]
    )
    return f"serving {models}{refused}"


def _loading(url: str) -> str:
    try:
        models = json.loads(get(f"{url}/models"))["models"]
    except NotYet:
        return ""
    return ", ".join(f"{model['name']} is {model['state']}" for model in models)


def _detail(body: bytes) -> str:
    try:
        problem: Any = json.loads(body)
    except ValueError:
        return ""
    return str(problem.get("detail", "")) if isinstance(problem, dict) else ""
