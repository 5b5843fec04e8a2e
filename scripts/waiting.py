"""Readiness checks of the two servers, with the HTTP client of the standard library."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.error
import urllib.request
from typing import Any

TIMEOUT_S = 5.0
REQUEST_ID = "readiness-check"  # marks these requests in the log of the service

# A proxy in the environment is for the internet, not for local servers. These are asked by another
# name than that of their certificate.
_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_context.check_hostname, _context.verify_mode = False, ssl.CERT_NONE
_opener = urllib.request.build_opener(
    urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=_context)
)


class NotYet(Exception):
    """The server does not respond yet, or is not ready; the text says what is missing."""


def get(url: str) -> bytes:
    """The body of the response to a GET.

    Raises:
        NotYet: no response, or a status other than 200.
    """
    try:
        headers = {"X-Request-Id": REQUEST_ID}
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - http and https only
        with _opener.open(request, timeout=TIMEOUT_S) as response:
            return bytes(response.read())
    except urllib.error.HTTPError as exc:
        raise NotYet(_detail(exc.read()) or f"{url} responds with {exc.code}") from exc
    except (OSError, http.client.HTTPException) as exc:
        raise NotYet(f"waiting for {url}") from exc


def service_state(url: str) -> str:
    """One line about the models of a service that is ready.

    Raises:
        NotYet: with the models that are still loading.
    """
    try:
        ready = json.loads(get(f"{url}/readyz"))
    except NotYet as exc:
        raise NotYet(_loading(url) or str(exc)) from exc
    if ready["models"] is None:
        return "serving; its models are for clients with an API key"
    models = ", ".join(map(_model, filter(_serves, ready["models"])))
    refused = "".join(
        f"\n         refused {_model(model)}: {model['reason']}" for model in ready["refused"]
    )
    return f"serving {models}{refused}"


def _loading(url: str) -> str:
    try:
        models = json.loads(get(f"{url}/models"))["models"]
    except NotYet:
        return ""
    loading = any(model["state"] == "loading" for model in models)
    # Once all are loaded, only the service itself knows why it is not ready.
    states = (f"{_model(model)} is {model['state']}" for model in models)
    return ", ".join(states) if loading else ""


def _model(model: dict[str, Any]) -> str:
    return f"{model['name']} version {model['version']}"


def _serves(model: dict[str, Any]) -> bool:
    return str(model["state"]) == "ready"


def _detail(body: bytes) -> str:
    try:
        problem: Any = json.loads(body)
    except ValueError:
        return ""
    return str(problem.get("detail", "")) if isinstance(problem, dict) else ""
