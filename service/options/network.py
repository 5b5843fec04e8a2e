"""Addresses, connections and the end of the service."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from service import neighbours
from service.options.types import Seconds

# As browsers send it (RFC 6454, 7): scheme, host and port, without a path.
ORIGIN = re.compile(r"https?://[a-z0-9.\-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?")


class NetworkOptions(BaseModel):
    """Addresses, connections and the end of the service."""

    host: str = Field(default="127.0.0.1", description="Address to listen on; 0.0.0.0: all.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on.")
    admin_host: str = Field(
        default="127.0.0.1", description="Address of the admin port; 0.0.0.0: all."
    )
    admin_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="Port that alone serves metrics, documentation, the repository's routes and "
        "the provenance of models, next to everything else; unset: SERVICE_PORT serves all.",
    )
    tls_certificate: Path | None = Field(
        default=None,
        description="Certificate for HTTPS on both ports and gRPC, with its chain, as a PEM file "
        "that is read again when it changes; unset: HTTP.",
    )
    tls_key: Path | None = Field(
        default=None, description="Key of the certificate, as a PEM file without a password."
    )
    tls_hsts_s: int = Field(
        default=0,
        ge=0,
        le=63_072_000,
        description="How long browsers shall use HTTPS alone for this host and all of its ports "
        "(Strict-Transport-Security), in seconds; 0: they are not told.",
    )
    grpc_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="Port for gRPC, on the same address; needs the extra `grpc`. Unset: no gRPC.",
    )
    root_path: str | None = Field(
        default=None,
        pattern=r"^(/[A-Za-z0-9._~-]+)+$",
        description="Prefix of the paths behind a proxy, such as `/classifier`, whether the proxy "
        "removes it or not.",
    )
    trusted_proxies: str | None = Field(
        default=None,
        description="Addresses and networks of proxies, with commas between them, whose "
        "`X-Forwarded-For` and `X-Forwarded-Proto` are believed; `*`: all. Unset: none.",
    )
    cors_origins: Annotated[tuple[str, ...] | None, NoDecode] = Field(
        default=None,
        description="Origins whose pages may call the service from a browser (CORS), separated by "
        "commas: `https://example.org,http://127.0.0.1:3000`; `*`: all; unset: none.",
    )
    request_timeout_s: Seconds = Field(default=30, description="Request read timeout, in seconds.")
    keep_alive_s: int = Field(
        default=75,
        ge=1,
        le=3600,
        description="How long an idle connection stays open, in seconds; longer than the load "
        "balancer in front keeps its own, which is 60 s for most.",
    )
    drain_delay_s: float = Field(
        default=0,
        ge=0,
        le=600,
        description="Time to keep serving while unready after SIGTERM, in seconds.",
    )
    drain_timeout_s: Seconds = Field(
        default=20, description="Time for requests in flight to finish at shutdown, in seconds."
    )

    @field_validator("host", "port", "admin_port", "grpc_port", mode="before")
    @classmethod
    def _is_ours(cls, value: object, info: ValidationInfo) -> object:
        """Kubernetes sets SERVICE_PORT=tcp://10.1.2.3:8000 for a Service called `service`."""
        if neighbours.is_address(value):
            return cls.model_fields[info.field_name or ""].default
        return value

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _are_origins(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        origins = tuple(part.strip() for part in value.split(","))
        for origin in origins:
            if not ORIGIN.fullmatch(origin) and origins != ("*",):
                raise ValueError(
                    f"an origin is a scheme, a host and a port, as https://example.org; or * alone "
                    f"for all. {origin!r} is not"
                )
        return origins

    @field_validator("trusted_proxies")
    @classmethod
    def _are_addresses(cls, value: str | None) -> str | None:
        """Uvicorn takes any other text for the name of a socket."""
        for part in value.split(",") if value not in (None, "*") else ():
            ipaddress.ip_network(part.strip())
        return value
