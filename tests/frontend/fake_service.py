"""A fake of the service: a `requests` adapter that follows the HTTP contract, without a socket."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import requests
from requests.adapters import BaseAdapter

from frontend.client import ServiceClient
from tests.frontend.fake_records import LABELS, METRICS, card

URL = "http://service.invalid:8000"
NEW_ROUTES = frozenset({"/explain", "/compare", "/embed", "/feedback", "card"})
SEEN = {
    "left": 43.0,
    "top": 0.0,
    "width": 384.0,
    "height": 300.0,
    "image_width": 451,
    "image_height": 300,
    "input_width": 32,
    "input_height": 32,
    "crop": "center",
}


def problem(
    status: int, code: str, detail: str, retry_after: int | None = None
) -> requests.Response:
    """An `application/problem+json` response."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return respond(status, problem_body(status, code, detail), "application/problem+json", headers)


def problem_body(status: int, code: str, detail: str) -> dict[str, Any]:
    """The document of a problem."""
    return {
        "type": f"urn:problem:{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "detail": detail,
        "instance": "urn:request:r-7",
        "code": code,
        "error": detail,
        "request_id": "r-7",
    }


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
        uncertain: `uncertain_reason` of every answer; empty: it is certain.
        older: a service without the routes and fields that came later.
        feedback: whether it takes feedback.
        in_set: number of labels in every prediction set.
        seen: the requests in the order of arrival.
    """

    models: list[dict[str, Any]] = field(default_factory=lambda: [TORCH, KERAS])
    fail: dict[str, Callable[[], requests.Response]] = field(default_factory=dict)
    operations: list[str] = field(default_factory=list)
    uncertain: str = ""
    older: bool = False
    feedback: bool = True
    in_set: int = 2
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
        response = self.route(url.path, parse_qs(url.query), request.body)
        response.request, response.url = request, str(request.url)
        return response

    def close(self) -> None:
        """Nothing is open."""

    def route(
        self, path: str, query: dict[str, list[str]], body: bytes | str | None
    ) -> requests.Response:
        """The response to one request."""
        first = {key: values[0] for key, values in query.items()}
        if path in self.fail:
            return self.fail[path]()
        if self.older and (path in NEW_ROUTES or path.endswith("/card")):
            return problem(404, "not_found", "There is no such route.")
        if path == "/readyz":
            models = [
                {key: model[key] for key in ("name", "version", "state")} for model in self.models
            ]
            return respond(200, {"status": "ready", "models": models, "refused": []})
        if path == "/models":
            return respond(200, {"default": self.models[0]["name"], "models": self.models})
        if path == "/metrics":
            return respond(200, METRICS.encode(), "text/plain; version=0.0.4")
        if path.startswith("/models/"):
            name = unquote(path.split("/")[2])
            if path.endswith("/card"):
                return respond(200, card(name))
            record = {"name": name, "labels": LABELS, "input": {"height": 32, "width": 32}}
            whole = {"accuracy": 0.5, "accuracy_of_crop": 0.75}
            return respond(200, record if self.older else record | {"whole": whole})
        if path == "/feedback":
            return self.take_feedback(body)
        if path == "/compare":
            return self.compare(first.get("models"), int(first["top_k"]))
        if path == "/explain":
            return self.explain(first["model"])
        return self.predict(first["model"], int(first["top_k"]), first.get("coverage"))

    def predict(self, name: str, top_k: int, coverage: str | None = None) -> requests.Response:
        """The response of the model `name`, whatever the image; a set has its best labels."""
        if name in self.fail:
            return self.fail[name]()
        answer = self.predicted(name, top_k)
        if coverage is not None:
            answer["prediction_set"] = {
                "coverage": float(coverage),
                "labels": answer["predictions"][: self.in_set],
                "measured_coverage": 0.8996,
                "samples": 10000,
            }
        return respond(200, answer)

    def predicted(self, name: str, top_k: int) -> dict[str, Any]:
        """The document of an answer."""
        model = next(model for model in self.models if model["name"] == name)
        scores = SCORES.get(name, [0.91] + [0.01] * 9)
        best = sorted(range(len(LABELS)), key=lambda index: -scores[index])[:top_k]
        newer = {
            "uncertain": bool(self.uncertain),
            "uncertain_reason": self.uncertain or None,
            "seen": SEEN,
        }
        return {
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
                "width": 451,
                "height": 300,
                "mode": "RGB",
                "operations": self.operations,
            },
            "timing_ms": {"decode": 2.1, "queue": 0.2, "inference": 7.4, "total": 10.3},
            "request_id": "r-1",
            **({} if self.older else newer),
        }

    def explain(self, name: str) -> requests.Response:
        """A heat map with its maximum in the left upper corner."""
        answer = self.predicted(name, 5)
        return respond(
            200,
            {
                "label": answer["predictions"][0]["label"],
                "index": answer["predictions"][0]["index"],
                "score": answer["predictions"][0]["score"],
                "heatmap": {
                    "height": 2,
                    "width": 2,
                    "values": [[1.0, 0.4], [0.2, 0.0]],
                    "minimum": -0.5,
                    "maximum": 9.25,
                },
                **answer,
            },
        )

    def compare(self, names: str | None, top_k: int) -> requests.Response:
        """All models named, or all that are ready; one that fails has a problem in its place."""
        wanted = (
            [name.partition("@")[0] for name in names.split(",")]
            if names
            else [model["name"] for model in self.models if model["state"] == "ready"]
        )
        results: list[dict[str, Any]] = []
        for name in wanted:
            if name in self.fail:
                failed = json.loads(self.fail[name]().raw.read())
                results.append({"model": {"name": name, "version": 1}, "error": failed})
            else:
                results.append(self.predicted(name, top_k))
        answers = [each for each in results if "predictions" in each]
        labels: dict[str, list[str]] = {}
        for each in answers:
            labels.setdefault(each["predictions"][0]["label"], []).append(each["model"]["name"])
        return respond(
            200,
            {
                "results": results,
                "agreement": {
                    "same_label": len(labels) == 1 if len(answers) > 1 else None,
                    "labels": labels,
                    "comparable": True,
                },
                "divergences": [{"models": [TORCH["name"], KERAS["name"]], "jensen_shannon": 0.21}],
                "image": answers[0]["image"],
                "timing_ms": {"total": 12.0},
                "request_id": "r-2",
            },
        )

    def take_feedback(self, body: bytes | str | None) -> requests.Response:
        """204 for feedback, 400 for an empty document, 404 where it is off."""
        if not self.feedback:
            return problem(404, "feedback_off", "SERVICE_FEEDBACK_FILE is not set.")
        if "right" not in json.loads(body or "{}"):
            return problem(400, "malformed_request", "right: it is missing.")
        return respond(204, b"")
