"""The routes of all protocols; they are not in the OpenAPI description, for each has its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from service.protocols import calls, description, inference, labelled, tensorflow_serving
from service.protocols.work import Call

VERSIONS = "/versions/{version}"

Endpoint = Callable[[Request], Awaitable[Response]]


class Named(Route):
    """A route that the metrics can name, as those of FastAPI do."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As the library does, with the route in the scope."""
        match, child_scope = super().matches(scope)
        if match is not Match.NONE:
            child_scope["route"] = self
        return match, child_scope


def _answer(describe: Callable[[Call], description.Document]) -> Endpoint:
    """An endpoint that answers with a document."""

    async def endpoint(request: Request) -> Response:
        return calls.answer(describe(calls.of(request)))

    return endpoint


def _of_model(path: str, endpoint: Endpoint, method: str = "GET") -> list[BaseRoute]:
    """A route of the Open Inference Protocol for a model and for one version of it."""
    return [
        Named(f"/v2/models/{{name}}{version}{path}", endpoint, methods=[method])
        for version in ("", VERSIONS)
    ]


ROUTES: list[BaseRoute] = [
    Named("/v2", _answer(description.server)),
    Named("/v2/health/live", _answer(description.live)),
    Named("/v2/health/ready", _answer(description.ready)),
    Named("/v2/models/stats", _answer(description.statistics)),
    *_of_model("", _answer(description.metadata)),
    *_of_model("/ready", _answer(description.model_ready)),
    *_of_model("/config", _answer(description.config)),
    *_of_model("/stats", _answer(description.statistics)),
    *_of_model("/infer", inference.infer, "POST"),
    # TensorFlow Serving and Vertex AI
    *(
        route
        for version in ("", VERSIONS)
        for route in (
            Named(
                f"/v1/models/{{name}}{version}:predict",
                tensorflow_serving.predict,
                methods=["POST"],
            ),
            Named(f"/v1/models/{{name}}{version}", tensorflow_serving.status),
        )
    ),
    # Hugging Face
    Named("/", labelled.hugging_face, methods=["POST"]),
    Named("/models/{name}", labelled.hugging_face, methods=["POST"]),
    Named(f"/models/{{name}}{VERSIONS}", labelled.hugging_face, methods=["POST"]),
    # SageMaker, and TorchServe, to which `curl -T` puts files
    Named("/ping", labelled.ping),
    Named("/invocations", labelled.hugging_face, methods=["POST"]),
    Named("/predictions/{name}", labelled.torchserve, methods=["POST", "PUT"]),
    Named("/predictions/{name}/{version}", labelled.torchserve, methods=["POST", "PUT"]),
]
