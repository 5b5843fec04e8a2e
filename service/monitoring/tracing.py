"""Traces by OpenTelemetry, where its variables ask for them; otherwise it is not even imported."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers
from starlette.types import Scope

from service.monitoring.metrics import METHODS

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

NAME = "resnet-service"
# Any of them asks for traces. OTEL_TRACES_EXPORTER=none and OTEL_SDK_DISABLED=true forbid them.
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
EXPORTER = "OTEL_TRACES_EXPORTER"
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
DISABLED = "OTEL_SDK_DISABLED"
OTLP, HTTP = "otlp", "http/protobuf"
# For the last spans to be sent when the service ends.
FLUSH_S = 3.0

Interval = tuple[str, float, float]

log = logging.getLogger("service")


class Tracer:
    """Makes the spans of requests from times that are measured anyway, after their responses.

    Args:
        processor: gets the spans; sampling and resource are those of the variables.
    """

    def __init__(self, processor: SpanProcessor) -> None:
        # With the first tracer, not with this module: nobody else pays for it.
        from opentelemetry import propagate, trace  # noqa: PLC0415
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415

        resource = Resource.create()
        if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: NAME}))
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(processor)
        self._processor = processor
        self._extract = propagate.extract
        self._trace = trace
        self._tracer = provider.get_tracer(NAME)

    def request(self, scope: Scope, status: int, started: float, ended: float) -> str | None:
        """Trace a request, as part of the trace that its `traceparent` names.

        Args:
            scope: of the request.
            status: of its response.
            started: `perf_counter` at its head.
            ended: `perf_counter` at the end of its response.

        Returns:
            The id of the trace; None: it is not recorded.
        """
        known = scope["state"]
        route = getattr(scope.get("route"), "path", None)
        # A client may send any method; these names are those of the semantic conventions.
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        attributes = {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status,
            "http.request.body.size": known.get("bytes_in"),
            "url.path": scope["path"],
            "url.scheme": scope.get("scheme"),
        }
        name = f"{method} {route}" if route else method.replace("_OTHER", "HTTP")
        carrier = Headers(scope=scope)
        return self._record(name, carrier, attributes, known, status, started, ended)

    def call(
        self,
        path: str,
        metadata: Mapping[str, str],
        known: Mapping[str, Any],
        status: int,
        started: float,
        ended: float,
    ) -> str | None:
        """Trace a call of gRPC.

        Args:
            path: `/SERVICE/METHOD`.
            metadata: that the client has sent.
            known: of the request.
            status: that HTTP has for its failure.
            started, ended: as for `request`.

        Returns:
            As `request`.
        """
        service, _, method = path.removeprefix("/").partition("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
        name = f"{service}/{method}"
        return self._record(name, metadata, attributes, known, status, started, ended)

    def _record(
        self,
        name: str,
        carrier: Mapping[str, str],
        attributes: Mapping[str, Any],
        known: Mapping[str, Any],
        status: int,
        started: float,
        ended: float,
    ) -> str | None:
        """The spans of a request and of its stages; the id of the trace if it is recorded."""
        trace = self._trace
        epoch = time.time() - time.perf_counter()
        span = self._tracer.start_span(
            name,
            self._extract(carrier),
            trace.SpanKind.SERVER,
            _known(
                {
                    **attributes,
                    "error.type": known.get("problem"),
                    "resnet.request_id": known["request_id"],
                    **_model(known),
                }
            ),
            start_time=_nanoseconds(started + epoch),
        )
        if not span.is_recording():
            return None
        if status >= 500:
            span.set_status(trace.StatusCode.ERROR)
        inside = trace.set_span_in_context(span)
        for stage, begin, end in _stages(known, started):
            of_model = _known(_model(known)) if stage != "receive" else {}
            child = self._tracer.start_span(
                stage, inside, attributes=of_model, start_time=_nanoseconds(begin + epoch)
            )
            child.end(_nanoseconds(end + epoch))
        span.end(_nanoseconds(ended + epoch))
        return str(trace.format_trace_id(span.get_span_context().trace_id))

    def close(self) -> None:
        """Send what is left, for `FLUSH_S` at most: the receiver may be gone."""
        sending = threading.Thread(target=self._processor.shutdown, daemon=True)
        sending.start()
        sending.join(FLUSH_S)


def from_environment(variables: Mapping[str, str]) -> Tracer | None:
    """The tracer that the variables of OpenTelemetry ask for; None: they do not, or it can't be."""
    exporter = variables.get(EXPORTER, "")
    asked = exporter or any(variables.get(name) for name in ENDPOINTS)
    if not asked or exporter == "none" or variables.get(DISABLED, "").lower() == "true":
        return None
    protocol = next((variables[name] for name in PROTOCOLS if variables.get(name)), HTTP)
    if exporter not in ("", OTLP) or protocol != HTTP:
        log.warning(
            "there are no traces: expected %s=%s or none, and %s=%s. Received: %r, %r",
            *(EXPORTER, OTLP, PROTOCOLS[1], HTTP, exporter, protocol),
        )
        return None
    try:
        # With the first tracer, as above.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as exc:
        log.warning(
            "there are no traces: the variables of OpenTelemetry ask for them, and a package is "
            "missing. Install the extra otel, or set %s=none. Received: %s",
            *(EXPORTER, exc),
        )
        return None
    try:
        return Tracer(BatchSpanProcessor(OTLPSpanExporter()))
    except ValueError as exc:
        log.warning("there are no traces: a variable of OpenTelemetry is wrong: %s", exc)
        return None


def _stages(known: Mapping[str, Any], started: float) -> Iterator[Interval]:
    """Name, begin and end of each stage, by `perf_counter`.

    `receive` is measured. Of the others the durations are, and they end one after another when the
    result is there: a file that a decoder decodes is queued after that, the others before. Of
    several images the longest time of each stage counts.
    """
    if "received_at" in known:
        yield "receive", started, known["received_at"]
    if "answered_at" not in known:
        return
    end: float = known["answered_at"]
    order = [("infer", "inference"), ("decode", "decode"), ("queue", "queue")]
    if known["by_decoder"]:
        order[1:] = reversed(order[1:])
    for name, stage in order:
        seconds = known["timing_ms"][stage] / 1000
        if seconds:
            yield name, end - seconds, end
            end -= seconds


def _model(known: Mapping[str, Any]) -> dict[str, Any]:
    model = known.get("model")
    return {
        "resnet.model": model.name if model else None,
        "resnet.version": model.version if model else None,
    }


def _known(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
