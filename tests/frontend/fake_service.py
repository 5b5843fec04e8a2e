"""A fake of the service: a `requests` adapter that follows the HTTP contract, without a socket."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests
from requests.adapters import BaseAdapter

from frontend.client import ServiceClient

URL = "http://service.invalid:8000"
LABELS = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def problem(
    status: int, code: str, detail: str, retry_after: int | None = None
) -> requests.Response:
    """An `application/problem+json` response."""
    body = {
        "type": f"urn:problem:{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "detail": detail,
        "instance": "urn:request:r-7",
        "code": code,
        "error": detail,
        "request_id": "r-7",
    }
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return respond(status, body, "application/problem+json", headers)


def respond(
    status: int, body: Any, kind: str = "application/json", headers: dict[str, str] | None = None
) -> requests.Response:
    """Any response: `body` as JSON, or bytes as they are."""
    response = requests.Response()
    response.status_code = status
    response.headers.update({"Content-Type": kind, **(headers or {})})
    response.raw = BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
    return response


def listed(name: str, framework: str, state: str = "ready", **more: Any) -> dict[str, Any]:
    """One entry of `GET /models`."""
    return {
        "name": name,
        "version": 1,
        "state": state,
        "framework": framework,
        "architecture": "resnet20",
        "runtime": "torchscript" if framework == "pytorch" else "savedmodel",
        "precision": "fp32",
        "device": "cpu",
        "classes": len(LABELS),
        "accuracy": 0.9163,
        **more,
    }


TORCH = listed("cifar10-resnet20-pytorch", "pytorch")
KERAS = listed("cifar10-resnet20-keras", "tensorflow", accuracy=0.9142)
SCORES = {
    TORCH["name"]: [0.9312, 0.0004, 0.0101, 0.0003, 0.0021, 0.0002, 0.0001, 0.0006, 0.0498, 0.0052],
    KERAS["name"]: [0.4873, 0.0007, 0.0096, 0.0011, 0.0013, 0.0004, 0.0003, 0.0005, 0.4911, 0.0077],
}


@dataclass
class FakeService(BaseAdapter):
    """Serves `models`; an entry of `fail` overrides the response of a path or of a model.

    Attributes:
        models: entries of `GET /models`.
        fail: path or model name -> makes the response, or raises what a broken connection raises.
        operations: decoding steps reported for every image.
        seen: the requests in the order of arrival.
    """

    models: list[dict[str, Any]] = field(default_factory=lambda: [TORCH, KERAS])
    fail: dict[str, Callable[[], requests.Response]] = field(default_factory=dict)
    operations: list[str] = field(default_factory=list)
    seen: list[requests.PreparedRequest] = field(default_factory=list)

    def client(self) -> ServiceClient:
        """The real client, with this fake in place of the network."""
        session = requests.Session()
        session.mount(URL, self)
        return ServiceClient(session, URL)

    def requests_to(self, path: str) -> list[requests.PreparedRequest]:
        return [request for request in self.seen if urlsplit(str(request.url)).path == path]

    def send(
        self, request: requests.PreparedRequest, *_args: object, **_options: object
    ) -> requests.Response:
        self.seen.append(request)
        url = urlsplit(str(request.url))
        path = url.path
        if path in self.fail:
            response = self.fail[path]()
        elif path == "/readyz":
            models = [
                {key: model[key] for key in ("name", "version", "state")} for model in self.models
            ]
            response = respond(200, {"status": "ready", "models": models, "refused": []})
        elif path == "/models":
            response = respond(200, {"default": self.models[0]["name"], "models": self.models})
        else:
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            response = self.predict(query["model"], int(query["top_k"]))
        response.request, response.url = request, str(request.url)
        return response

    def close(self) -> None:
        """Nothing is open."""

    def predict(self, name: str, top_k: int) -> requests.Response:
        """The response of the model `name`, whatever the image."""
        if name in self.fail:
            return self.fail[name]()
        model = next(model for model in self.models if model["name"] == name)
        scores = SCORES.get(name, [0.91] + [0.01] * 9)
        best = sorted(range(len(LABELS)), key=lambda index: -scores[index])[:top_k]
        return respond(
            200,
            {
                "predictions": [
                    {"rank": rank, "index": index, "label": LABELS[index], "score": scores[index]}
                    for rank, index in enumerate(best, start=1)
                ],
                "model": {
                    key: model[key]
                    for key in ("name", "version", "framework", "runtime", "precision", "device")
                },
                "image": {
                    "format": "JPEG",
                    "width": 384,
                    "height": 384,
                    "mode": "RGB",
                    "operations": self.operations,
                },
                "timing_ms": {"decode": 2.1, "queue": 0.2, "inference": 7.4, "total": 10.3},
                "request_id": "r-1",
            },
        )
