"""What the service uses of uvicorn beyond its documented interface.

`service/api/protocol.py` and `service/network/draining.py` override or read these names, so
pyproject.toml bounds uvicorn's version. When a new version fails here, read what changed there,
adapt both files and raise the bound.
"""

from __future__ import annotations

import inspect

import pytest
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

INTERNALS = {
    HttpToolsProtocol: (
        *("connection_made", "connection_lost", "data_received", "pause_writing", "resume_writing"),
        *("on_message_begin", "on_headers_complete", "on_body", "on_message_complete"),
        *("_unset_keepalive_if_required", "send_400_response"),
        *("parser", "headers", "url", "scope", "cycle", "pipeline", "flow", "transport", "loop"),
        "server_state",
    ),
    RequestResponseCycle: (
        *("scope", "transport", "keep_alive", "more_body", "disconnected", "message_event"),
        *("response_started", "response_complete"),
    ),
    FlowControl: ("resume_reading",),
    uvicorn.Server: (
        *("handle_exit", "capture_signals", "startup", "_captured_signals", "should_exit"),
        *("lifespan", "servers", "server_state"),
    ),
}


@pytest.mark.parametrize("kind", INTERNALS, ids=lambda kind: kind.__name__)
def test_uvicorn_still_has_what_the_service_overrides(kind: type) -> None:
    source = inspect.getsource(kind)

    gone = [
        name for name in INTERNALS[kind] if not hasattr(kind, name) and f"self.{name}" not in source
    ]

    assert not gone, f"uvicorn {uvicorn.__version__}: {kind.__name__} has changed, see this module"
