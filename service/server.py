"""Running the service: settings, logging, uvicorn, and a shutdown that loses no request."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import resource
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from fastapi import FastAPI

from bundle import files
from bundle.machine import tune_malloc
from service.api.protocol import deadline_protocol
from service.app import create_app
from service.settings import Settings, SettingsError, read_settings

OPEN_FILES = 65_536
USAGE = 2  # exit code for wrong settings, as command lines have it


class DrainingServer(uvicorn.Server):
    """Says "draining" on /readyz for a while before it stops listening, so that load balancers look elsewhere."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, delay_s: float) -> None:
        super().__init__(config)
        self._application = app
        self._delay_s = delay_s
        self._signalled = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First signal: un-ready, and stop after the delay; second one: stop now; SIGINT once more: drop all requests."""
        registry = getattr(self._application.state, "registry", None)
        if registry is not None:
            registry.draining = True
        if self._delay_s and not self._signalled:
            self._signalled = True
            logging.getLogger("service").info("draining: serving on for %g s", self._delay_s)
            self._loop.call_soon_threadsafe(
                self._loop.call_later, self._delay_s, self._end_delay, sig, frame
            )
            return
        super().handle_exit(sig, frame)

    def _end_delay(self, sig: int, frame: FrameType | None) -> None:
        if (
            not self.should_exit
        ):  # uvicorn would take it for one more signal, and drop the requests under way
            super().handle_exit(sig, frame)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn does, which then raises the signals anew; this shutdown is complete, and its exit code 0."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        """As uvicorn does; keeps the loop, which a signal handler can't ask for."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)  # type: ignore[arg-type]
        # What has been imported stays; looked through again and again it is 4 % of the time of this process under load.
        gc.collect()
        gc.freeze()


def main() -> int:
    """Serve until a signal; returns the exit code."""
    try:
        settings = read_settings()
        if not settings.models_dir.is_dir():
            raise SettingsError(
                "SERVICE_MODELS_DIR: there is no such folder. Expected a model repository. "
                f"Received: '{settings.models_dir}'"
            )
        _check_writable(settings)
        _check_address(settings)
    except SettingsError as exc:
        print(f"The service can't start: {exc}", file=sys.stderr)  # noqa: T201 - there is no log yet
        return USAGE
    configure_logging(settings)
    _allow_connections()
    tune_malloc()
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=deadline_protocol(settings.request_timeout_s, app.state.metrics.problem),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here asks for the client's address
        timeout_graceful_shutdown=math.ceil(settings.drain_timeout_s),
    )
    server = DrainingServer(config, app, settings.drain_delay_s)
    server.run()
    return 0 if server.started else 1


def _check_writable(settings: Settings) -> None:
    """Make the folder for what is compiled, or say that it can't be.

    Raises:
        SettingsError: it can't be made or written to.
    """
    folder = settings.compiled_dir
    if folder is None:
        return
    try:
        files.check_writable(folder)
    except OSError as exc:
        raise SettingsError(
            "SERVICE_COMPILED_DIR: this folder can't be written to. Expected one that can, or nothing. "
            f"Received: '{folder}': {exc.strerror}"
        ) from exc


def _check_address(settings: Settings) -> None:
    """Find out that the address can't be listened on before models are loaded for nothing.

    Raises:
        SettingsError: it is no address of this machine, or another program has the port.
    """
    try:
        addresses = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, address in addresses:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
    except OSError as exc:
        raise SettingsError(
            "SERVICE_HOST, SERVICE_PORT: this address can't be listened on. Expected an address of this machine and a "
            f"port that no other program has. Received: {settings.host} port {settings.port}: {exc.strerror}"
        ) from exc


def _allow_connections() -> None:
    """Raise the soft limit of open files: every connection is one, and idle clients soon hold the usual 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def configure_logging(settings: Settings) -> None:
    """One line per event on standard output."""
    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stdout,
    )
    # Its warnings are about forms that clients made, who are told; the log has the status of the answer.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
