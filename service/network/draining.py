"""uvicorn's server with a drain, several addresses of one application, and HTTPS on all of them."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE

from service.network.tls import Certificate
from service.polling import Poll
from service.settings import Settings

# For the other side to confirm that a TLS connection ends. Few clients look at idle connections.
TLS_CLOSE_S = 1.0

log = logging.getLogger("service")


class DrainingServer(uvicorn.Server):
    """Reports "draining" on /readyz for a while before it stops listening, for load balancers.

    Args:
        config: The application with its lifespan, and its address.
        app: That application.
        delay_s: For how long it still serves, in seconds.
        others: Further applications of the same state, each with its address.
        certificate: For HTTPS on all addresses.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        app: FastAPI,
        delay_s: float,
        *,
        others: Sequence[uvicorn.Config] = (),
        certificate: Certificate | None = None,
    ) -> None:
        super().__init__(config)
        self._configs = (config, *others)
        self._application = app
        self._certificate = certificate
        self._poll: Poll | None = None
        self._delay_s = delay_s
        self._signalled = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle SIGTERM or SIGINT.

        The first one makes the service unready and stops it after the delay, the second one stops
        it now, and another SIGINT drops all requests.
        """
        registry = getattr(self._application.state, "registry", None)
        if registry is not None:
            registry.draining = True
        if self._delay_s and not self._signalled:
            self._signalled = True
            log.info("draining: still serving for %g s", self._delay_s)
            self._loop.call_soon_threadsafe(
                self._loop.call_later, self._delay_s, self._end_delay, sig, frame
            )
            return
        super().handle_exit(sig, frame)

    def _end_delay(self, sig: int, frame: FrameType | None) -> None:
        # After a second signal uvicorn would take this for a third, and drop all requests.
        if not self.should_exit:
            super().handle_exit(sig, frame)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn does, without raising the signals again: a complete shutdown exits with 0."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()

    async def startup(self, sockets: Any = None) -> None:  # noqa: ARG002 - uvicorn's signature
        """As uvicorn does; keeps the loop for `handle_exit`, which runs outside of it."""
        self._loop = asyncio.get_running_loop()
        await super().startup([])
        await self._listen()
        lifecycle = getattr(self._application.state, "lifecycle", None)
        if lifecycle is not None:
            self._loop.add_signal_handler(signal.SIGHUP, self._look)
        # Modules stay; collecting them again and again takes 4 % of this process's time under load.
        gc.collect()
        gc.freeze()

    async def _listen(self) -> None:
        """Open all addresses. Uvicorn knows one, and no limit on the time of a TLS handshake."""
        options: dict[str, Any] = {}
        if self._certificate is not None:
            settings: Settings = self._application.state.settings
            options["ssl"] = self._certificate.context
            options["ssl_handshake_timeout"] = settings.request_timeout_s
            options["ssl_shutdown_timeout"] = TLS_CLOSE_S
            # Ends with the loop.
            certificate = self._certificate
            self._poll = Poll(lambda _: certificate.look(), settings.watch_s)
            self._watching = self._loop.create_task(self._poll.run())
        try:
            for config in self._configs:
                if not config.loaded:
                    config.load()
                protocol_class: Any = config.http_protocol_class
                protocol = functools.partial(
                    protocol_class,
                    config=config,
                    server_state=self.server_state,
                    app_state=self.lifespan.state,
                )
                server = await self._loop.create_server(
                    protocol, config.host, config.port, backlog=config.backlog, **options
                )
                self.servers.append(server)
                scheme = "https" if options else "http"
                log.info("listening on %s://%s:%d", scheme, config.host, config.port)
        except OSError as exc:  # as uvicorn does
            log.error("the service can't listen: %s", exc)
            await self.lifespan.shutdown()
            sys.exit(STARTUP_FAILURE)

    def _look(self) -> None:
        """Look at everything that is read again."""
        self._application.state.lifecycle.look()
        state = self._application.state
        for poll in (state.keys.poll, self._poll, state.remote):
            if poll is not None:
                poll.ask()

    async def shutdown(self, sockets: Any = None) -> None:
        """As uvicorn does; gRPC finishes its calls at the same time as HTTP its requests."""
        grpc_server = getattr(self._application.state, "grpc_server", None)
        if grpc_server is not None:
            grpc_server.end()
        await super().shutdown(sockets)
