"""The server of gRPC: it listens beside HTTP, in the same event loop, and ends with it."""

from __future__ import annotations

import asyncio
import logging

import grpc
from google.protobuf.message_factory import GetMessageClass
from starlette.datastructures import State
from tritonclient.grpc import service_pb2

from service.network.tls import Certificate
from service.rpc.calls import Calls
from service.rpc.methods import ADMIN_METHODS, METHODS
from service.settings import Settings

SERVICE = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
# Bytes of names and shapes, in addition to the images.
OVERHEAD = 65_536
# Calls of one connection at once; a client delays those beyond.
MAX_STREAMS = 256
# For the answers to calls that were cut short.
LAST_WORDS_S = 1.0

log = logging.getLogger("service")


class GrpcServer:
    """Serves the Open Inference Protocol over gRPC.

    Args:
        state: Of the application.
        settings: Address, limits and timeouts.
        certificate: For TLS, as HTTP has it; None: there is none.
    """

    def __init__(
        self, state: State, settings: Settings, certificate: Certificate | None = None
    ) -> None:
        self._settings = settings
        self._certificate = certificate
        max_bytes = settings.max_request_bytes + OVERHEAD
        self._calls = Calls(state, max_bytes)
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", max_bytes),
                ("grpc.max_concurrent_streams", MAX_STREAMS),
                ("grpc.max_connection_idle_ms", settings.keep_alive_s * 1000),
                ("grpc.server_handshake_timeout_ms", round(settings.request_timeout_s * 1000)),
                # Two services on one port would share its calls without a word.
                ("grpc.so_reuseport", 0),
            ]
        )
        self._end: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Listen; returns the port."""
        settings = self._settings
        # Where there is an admin port, it alone has the routes for operators.
        for_operators = settings.has_administrators and settings.admin_port is None
        names = METHODS | (ADMIN_METHODS if for_operators else {})
        handlers = {}
        for name, method in names.items():
            described = SERVICE.methods_by_name[name]
            handlers[name] = self._calls.handler(
                f"/{SERVICE.full_name}/{name}",
                method,
                GetMessageClass(described.input_type),
                GetMessageClass(described.output_type),
            )
        generic = grpc.method_handlers_generic_handler(SERVICE.full_name, handlers)
        self._server.add_generic_rpc_handlers((generic,))
        host, port = self._settings.host, self._settings.grpc_port
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        chosen: int
        if self._certificate is None:
            chosen = self._server.add_insecure_port(address)
        else:
            chosen = self._server.add_secure_port(address, _credentials(self._certificate))
        await self._server.start()
        secured = "without TLS" if self._certificate is None else "with TLS"
        log.info("gRPC listens on %s port %d, %s", host, chosen, secured)
        return chosen

    def end(self) -> asyncio.Task[None]:
        """Refuse new calls, and finish those that run within SERVICE_DRAIN_TIMEOUT_S."""
        if self._end is None:
            self._end = asyncio.create_task(self._drain())
        return self._end

    async def _drain(self) -> None:
        try:
            await self._calls.end(self._settings.drain_timeout_s)
        finally:
            await self._server.stop(LAST_WORDS_S)


def _credentials(certificate: Certificate) -> grpc.ServerCredentials:
    """What each handshake has: the pair that is served at that moment."""
    last = certificate.pair

    def configuration() -> grpc.ServerCertificateConfiguration:
        chain, key = last
        return grpc.ssl_server_certificate_configuration([(key, chain)])

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal last
        if certificate.pair is last:
            return None
        last = certificate.pair
        return configuration()

    return grpc.dynamic_ssl_server_credentials(configuration(), changed)
