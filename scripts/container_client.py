"""Requests of `make containers` to the service in a container."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
import uuid
from typing import Any

from engine import ROOT
from waiting import NotYet, get

SAMPLE = ROOT / "frontend/samples/coffee.jpg"
SERVICE = f"http://127.0.0.1:{os.environ.get('SERVICE_PORT') or 8000}"
PAGE = f"http://127.0.0.1:{os.environ.get('FRONTEND_PORT') or 8501}"
RESTART_TIMEOUT_S = 600.0


class CheckFailed(Exception):
    """A container does not behave as required; the text says how."""


def until_ready(url: str, begin: float) -> float:
    """Wait until the service at `url` is ready. Returns the seconds since `begin`."""
    while True:
        try:
            get(f"{url}/readyz")
        except NotYet as exc:
            if time.monotonic() - begin > RESTART_TIMEOUT_S:
                raise CheckFailed(f"not ready within {RESTART_TIMEOUT_S:.0f} s: {exc}") from exc
            time.sleep(0.05)
        else:
            return time.monotonic() - begin


def predict(url: str, model: str = "") -> dict[str, Any]:
    """The response for the sample image, sent as a form."""
    boundary = uuid.uuid4().hex
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{SAMPLE.name}"'
        "\r\nContent-Type: image/jpeg\r\n\r\n"
    )
    body = head.encode() + SAMPLE.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
    request = urllib.request.Request(  # noqa: S310 - http, to this machine
        f"{url}/predict" + (f"?model={model}" if model else ""),
        data=body,
        headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            result: dict[str, Any] = json.loads(response.read())
    except urllib.error.HTTPError as exc:
        raise CheckFailed(
            f"{model}: {exc.code} {exc.read().decode(errors='replace')[:300]}"
        ) from exc
    return result
