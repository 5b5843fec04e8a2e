"""Traces of the page's requests by OpenTelemetry, where its variables ask for them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import requests

NAME = "resnet-page"
# As in the service: any of them asks for traces.
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
EXPORTER = "OTEL_TRACES_EXPORTER"
DISABLED = "OTEL_SDK_DISABLED"

log = logging.getLogger("frontend")


class TracedSession(requests.Session):
    """A session with a span for each request, which the service continues by `traceparent`."""

    def __init__(self) -> None:
        super().__init__()
        # With the first session that is traced, not with this module: nobody else pays for it.
        from opentelemetry import propagate, trace  # noqa: PLC0415
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

        resource = Resource.create()
        if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: NAME}))
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer(NAME)
        self._client = trace.SpanKind.CLIENT
        self._failed = trace.StatusCode.ERROR
        self._inject = propagate.inject

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """As the session does, inside of a span; an exception is recorded by it."""
        name = f"{request.method} {request.path_url.partition('?')[0]}"
        with self._tracer.start_as_current_span(name, kind=self._client) as span:
            span.set_attribute("http.request.method", str(request.method))
            span.set_attribute("url.full", str(request.url))
            self._inject(request.headers)
            response = super().send(request, **options)
            span.set_attribute("http.response.status_code", response.status_code)
            if response.status_code >= 400:
                span.set_status(self._failed)
            return response

    def close(self) -> None:
        """Close the connections, and send the last spans."""
        super().close()
        self._provider.shutdown()


def new_session(variables: Mapping[str, str]) -> requests.Session:
    """A session that is traced if the variables of OpenTelemetry ask for it and it can be."""
    exporter = variables.get(EXPORTER, "")
    asked = exporter or any(variables.get(name) for name in ENDPOINTS)
    if not asked or exporter == "none" or variables.get(DISABLED, "").lower() == "true":
        return requests.Session()
    try:
        return TracedSession()
    except ImportError as exc:
        log.warning(
            "The page is not traced: the variables of OpenTelemetry ask for it, and a package is "
            "missing. Install the extra otel, or set %s=none. Received: %s",
            *(EXPORTER, exc),
        )
        return requests.Session()
