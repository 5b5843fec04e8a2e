"""Runs the service: settings, logging, uvicorn, and a shutdown that loses no request."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from fastapi import FastAPI

from bundle import files
from bundle.errors import BundleError
from bundle.machine import tune_malloc
from bundle.worker.signature import describe_signers
from service.api.protocol import deadline_protocol
from service.app import create_app
from service.model_settings import read_model_settings
from service.settings import Settings, SettingsError, ignored_variables, read_settings

OPEN_FILES = 65_536
USAGE = 2  # exit code for wrong settings, as of a command line


class DrainingServer(uvicorn.Server):
    """Reports "draining" on /readyz for a while before it stops listening, for load balancers."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, delay_s: float) -> None:
        super().__init__(config)
        self._application = app
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
            logging.getLogger("service").info("draining: still serving for %g s", self._delay_s)
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

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        """As uvicorn does; keeps the loop for `handle_exit`, which runs outside of it."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)  # type: ignore[arg-type]
        lifecycle = getattr(self._application.state, "lifecycle", None)
        if lifecycle is not None:
            self._loop.add_signal_handler(signal.SIGHUP, lifecycle.look)
        # Modules stay; collecting them again and again takes 4 % of this process's time under load.
        gc.collect()
        gc.freeze()


def main() -> int:
    """Serve until a signal; returns the exit code."""
    try:
        settings = usable_settings()
    except SettingsError as exc:
        print(f"The service can't start: {exc}", file=sys.stderr)  # noqa: T201 - logging is not configured
        return USAGE
    configure_logging(settings)
    for line in ignored_variables():
        logging.getLogger("service").warning(line)
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
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies or "",
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=math.ceil(settings.drain_timeout_s),
    )
    server = DrainingServer(config, app, settings.drain_delay_s)
    server.run()
    return 0 if server.started else 1


def usable_settings() -> Settings:
    """The settings from the environment, checked against this machine.

    Raises:
        SettingsError: a setting is invalid or cannot be used here; the message names it.
    """
    settings = read_settings()
    _check_readable(settings)
    read_model_settings(settings)
    _check_writable(settings)
    _check_signers(settings)
    _check_address(settings)
    _check_root_path(settings)
    return settings


def _check_readable(settings: Settings) -> None:
    """Check that the model repository can be listed.

    Raises:
        SettingsError: it does not exist, or its permissions forbid it.
    """
    try:
        with os.scandir(settings.models_dir):
            pass
    except OSError as exc:
        raise SettingsError(
            "SERVICE_MODELS_DIR: the folder can't be read. Expected a model repository. "
            f"Received: '{settings.models_dir}': {exc.strerror}"
        ) from exc


def _check_writable(settings: Settings) -> None:
    """Create the folder for compiled models.

    Raises:
        SettingsError: it can't be created or written to.
    """
    folder = settings.compiled_dir
    if folder is None:
        return
    try:
        files.check_writable(folder)
    except OSError as exc:
        raise SettingsError(
            "SERVICE_COMPILED_DIR: the folder can't be written to. Expected a writable folder, or "
            f"nothing. Received: '{folder}': {exc.strerror}"
        ) from exc


def _check_signers(settings: Settings) -> None:
    """Check that the keys of the signers can be read, before every bundle is refused for it.

    Raises:
        SettingsError: they can't, or the package that verifies signatures is missing.
    """
    if settings.signers is None:
        return
    confined = settings.sandbox != "off"
    checking = describe_signers(settings.signers, settings.load_timeout_s, confined=confined)
    try:
        asyncio.run(checking)
    except BundleError as exc:
        raise SettingsError(f"SERVICE_SIGNERS: {exc}") from exc


def _check_address(settings: Settings) -> None:
    """Check the address before any model is loaded.

    Raises:
        SettingsError: it is not an address of this machine, or the port is in use.
    """
    try:
        addresses = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, address in addresses:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
    except OSError as exc:
        raise SettingsError(
            "SERVICE_HOST, SERVICE_PORT: can't listen on this address. Expected an address of this "
            "machine and a free port. "
            f"Received: {settings.host} port {settings.port}: {exc.strerror}"
        ) from exc


def _check_root_path(settings: Settings) -> None:
    """Check that no path can be taken for another one with the prefix removed.

    Raises:
        SettingsError: the prefix begins as a route does.
    """
    if not settings.root_path:
        return
    paths = [getattr(route, "path", "") for route in create_app(settings).routes]
    taken = sorted({path.split("/")[1] for path in paths} - {""})
    if settings.root_path.split("/")[1] in taken:
        raise SettingsError(
            "SERVICE_ROOT_PATH: the prefix can't begin as a route does. Expected another first "
            f"part than {', '.join(taken)}. Received: {settings.root_path}"
        )


def _allow_connections() -> None:
    """Raise the soft limit of open files: each connection is one, and the usual limit is 1,024."""
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
    # It warns about invalid forms, which are the client's problem and are reported in the response.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
