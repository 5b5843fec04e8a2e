"""Runs the service: settings, logging, uvicorn, and a shutdown that loses no request."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import math
import os
import resource
import socket
import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from bundle import files
from bundle.errors import BundleError
from bundle.machine import tune_malloc
from bundle.worker.signature import describe_signers
from service.access.entries import read_entries
from service.api.protocol import deadline_protocol
from service.app import create_app, public_app
from service.model_settings import read_model_settings
from service.monitoring import tracing
from service.monitoring.logs import configure_logging
from service.network.browsers import security_headers
from service.network.draining import DrainingServer
from service.network.tls import read_certificate
from service.options.address import PACKAGES, Address
from service.settings import Settings, SettingsError, ignored_variables, read_settings

OPEN_FILES = 65_536
USAGE = 2  # exit code for wrong settings, as of a command line

log = logging.getLogger("service")


def main() -> int:
    """Serve until a signal; returns the exit code."""
    try:
        settings = usable_settings()
        certificate = read_certificate(settings)
    except SettingsError as exc:
        print(f"The service can't start: {exc}", file=sys.stderr)  # noqa: T201 - logging is not configured
        return USAGE
    configure_logging(settings)
    for line in ignored_variables():
        log.warning(line)
    _allow_connections()
    tune_malloc()
    tracer = tracing.from_environment(os.environ)
    app = create_app(settings, tracer)
    if certificate is not None:
        app.state.certificate = certificate
        app.state.metrics.certificate_expires = lambda: certificate.expires
    configs = [_config(settings, app, settings.host, settings.port)]
    if settings.admin_port is not None:
        admin = _config(settings, app, settings.admin_host, settings.admin_port)
        configs = [admin, _config(settings, public_app(app), settings.host, settings.port)]
    server = DrainingServer(
        configs[0], app, settings.drain_delay_s, others=configs[1:], certificate=certificate
    )
    server.run()
    if tracer is not None:
        tracer.close()
    return 0 if server.started else 1


def _config(settings: Settings, app: FastAPI, host: str, port: int) -> uvicorn.Config:
    """How uvicorn serves an application at an address."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=deadline_protocol(settings.request_timeout_s, app.state.metrics.problem),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies or "",
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=math.ceil(settings.drain_timeout_s),
        headers=security_headers(settings.tls_hsts_s),
    )


def usable_settings() -> Settings:
    """The settings from the environment, checked against this machine.

    Raises:
        SettingsError: a setting is invalid or cannot be used here; the message names it.
    """
    settings = read_settings()
    if isinstance(settings.models_dir, Address):
        _check_remote(settings, settings.models_dir)
    else:
        _check_readable(settings.models_dir)
        read_model_settings(settings)
    read_entries(settings)
    _check_writable(settings)
    _check_signers(settings)
    _check_address("SERVICE_HOST, SERVICE_PORT", settings.host, settings.port)
    _check_admin_port(settings)
    if settings.grpc_port is not None:
        _check_grpc(settings)
    _check_root_path(settings)
    return settings


def _check_remote(settings: Settings, address: Address) -> None:
    """Check that models at an address can be copied here; whether they are there is no condition.

    Raises:
        SettingsError: a package is missing, the bytes could be altered, or the folder for the copy
            can't be written to.
    """
    packages = ("fsspec", PACKAGES[address.scheme])
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise SettingsError(
            "SERVICE_MODELS_DIR: an address needs libraries that are not installed. Expected the "
            "extra `remote` of this package (pip install '.[service,remote]'), or a folder. "
            f"Received: '{address}', and no package {missing[0]}"
        )
    if address.can_be_altered and settings.signers is None:
        raise SettingsError(
            "SERVICE_MODELS_DIR: over plain HTTP others can change the models on their way. "
            f"Expected https://, or SERVICE_SIGNERS. Received: '{address}'"
        )
    folder = settings.models_folder
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.check_writable(folder)
    except OSError as exc:
        raise SettingsError(
            "SERVICE_MODELS_CACHE: the folder can't be written to. Expected a writable folder for "
            f"the copy of the models. Received: '{folder}': {exc.strerror}"
        ) from exc


def _check_readable(folder: Path) -> None:
    """Check that the model repository can be listed.

    Raises:
        SettingsError: it does not exist, or its permissions forbid it.
    """
    try:
        with os.scandir(folder):
            pass
    except OSError as exc:
        raise SettingsError(
            "SERVICE_MODELS_DIR: the folder can't be read. Expected a model repository. "
            f"Received: '{folder}': {exc.strerror}"
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
    checking = describe_signers(
        settings.signers, settings.load_timeout_s, confined=settings.confined
    )
    try:
        asyncio.run(checking)
    except BundleError as exc:
        raise SettingsError(f"SERVICE_SIGNERS: {exc}") from exc


def _check_grpc(settings: Settings) -> None:
    """Check that gRPC can be served.

    Raises:
        SettingsError: its libraries are not installed, or its port can't be used.
    """
    try:
        import service.rpc.server  # noqa: F401, PLC0415 - an extra
    except ImportError as exc:
        raise SettingsError(
            "SERVICE_GRPC_PORT: gRPC needs libraries that are not installed. Expected the extra "
            "`grpc` of this package (pip install '.[service,grpc]'), or no port. "
            f"Received: {settings.grpc_port}, and {exc}"
        ) from exc
    if settings.grpc_port and settings.grpc_port in (settings.port, settings.admin_port):
        raise SettingsError(
            "SERVICE_GRPC_PORT: gRPC can't have a port of HTTP (SERVICE_PORT, SERVICE_ADMIN_PORT). "
            f"Expected another one. Received: {settings.grpc_port}"
        )
    _check_address("SERVICE_HOST, SERVICE_GRPC_PORT", settings.host, settings.grpc_port or 0)


def _check_address(variables: str, host: str, port: int) -> None:
    """Check an address before any model is loaded.

    Raises:
        SettingsError: it is not an address of this machine, or the port is in use.
    """
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, address in addresses:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
    except OSError as exc:
        raise SettingsError(
            f"{variables}: can't listen on this address. Expected an address of this machine and a "
            f"free port. Received: {host} port {port}: {exc.strerror}"
        ) from exc


def _check_admin_port(settings: Settings) -> None:
    """Check the address of the admin port, if there is one.

    Raises:
        SettingsError: it is not usable, or the public one.
    """
    port = settings.admin_port
    if port is None:
        return
    if port == settings.port != 0:
        raise SettingsError(
            "SERVICE_ADMIN_PORT: the public port can't be the admin port. Expected another one "
            f"than SERVICE_PORT. Received: {port}"
        )
    _check_address("SERVICE_ADMIN_HOST, SERVICE_ADMIN_PORT", settings.admin_host, port)


def _check_root_path(settings: Settings) -> None:
    """Check that no path can be taken for another one with the prefix removed.

    Raises:
        SettingsError: the prefix begins as a route does.
    """
    if not settings.root_path:
        return
    paths = [getattr(route, "path", "") for route in create_app(settings).routes]
    # The path of a whole router is empty.
    taken = sorted({path.split("/")[1] for path in paths if path} - {""})
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
