"""The routes of all protocols; they are not in the OpenAPI description, for each has its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.protocols import description, inference, labelled, tensorflow_serving

VERSIONS = "/versions/{version}"

Endpoint = Callable[[Request], Awaitable[Response]]


def _of_model(path: str, endpoint: Endpoint, method: str = "GET") -> list[Route]:
    """A route of the Open Inference Protocol for a model and for one version of it."""
    return [
        Route(f"/v2/models/{{name}}{version}{path}", endpoint, methods=[method])
        for version in ("", VERSIONS)
    ]


ROUTES: list[Route] = [
    Route("/v2", description.server),
    Route("/v2/health/live", description.live),
    Route("/v2/health/ready", description.ready),
    Route("/v2/models/stats", description.statistics),
    *_of_model("", description.metadata),
    *_of_model("/ready", description.model_ready),
    *_of_model("/config", description.config),
    *_of_model("/stats", description.statistics),
    *_of_model("/infer", inference.infer, "POST"),
    # TensorFlow Serving and Vertex AI
    *(
        route
        for version in ("", VERSIONS)
        for route in (
            Route(
                f"/v1/models/{{name}}{version}:predict",
                tensorflow_serving.predict,
                methods=["POST"],
            ),
            Route(f"/v1/models/{{name}}{version}", tensorflow_serving.status),
        )
    ),
    # Hugging Face
    Route("/", labelled.hugging_face, methods=["POST"]),
    Route("/models/{name}", labelled.hugging_face, methods=["POST"]),
    Route(f"/models/{{name}}{VERSIONS}", labelled.hugging_face, methods=["POST"]),
    # SageMaker, and TorchServe, to which `curl -T` puts files
    Route("/ping", labelled.ping),
    Route("/invocations", labelled.hugging_face, methods=["POST"]),
    Route("/predictions/{name}", labelled.torchserve, methods=["POST", "PUT"]),
    Route("/predictions/{name}/{version}", labelled.torchserve, methods=["POST", "PUT"]),
]
