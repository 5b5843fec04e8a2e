"""The page's settings, read from the environment and validated before the first request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

VARIABLE = "SERVICE_URL"
KEY_VARIABLE = "FRONTEND_API_KEY"
PUBLIC_VARIABLE = "FRONTEND_PUBLIC_SERVICE_URL"
DEFAULT_URL = "http://127.0.0.1:8000"
# The name that requests gives it.
CA_VARIABLE = "REQUESTS_CA_BUNDLE"


class SettingsError(ValueError):
    """An environment variable has an invalid value."""


@dataclass(frozen=True)
class Settings:
    """Settings of the page.

    Attributes:
        service_url: root of the service, `http` or `https`, without a trailing slash.
        public_url: the same service as visitors reach it, for code that they copy.
        api_key: of the page, for a service that needs keys; None: it sends none.
        ca_bundle: certificates of the authorities to trust with `https`; None: the usual ones.
    """

    service_url: str
    public_url: str
    api_key: str | None = field(default=None, repr=False)
    ca_bundle: str | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the settings; an unset or blank variable gives its default.

        Raises:
            SettingsError: names the variable, the expected and the received value.
        """
        service_url = _checked_url(VARIABLE, environment.get(VARIABLE, "").strip() or DEFAULT_URL)
        public_url = environment.get(PUBLIC_VARIABLE, "").strip()
        return cls(
            service_url=service_url,
            public_url=_checked_url(PUBLIC_VARIABLE, public_url) if public_url else service_url,
            api_key=_checked_key(environment.get(KEY_VARIABLE, "").strip()) or None,
            ca_bundle=_checked_path(environment.get(CA_VARIABLE, "").strip()),
        )


def _checked_key(value: str) -> str:
    # The value is not repeated: it is secret, and this text is shown on the page.
    if not value.isascii() or not value.isprintable() or " " in value:
        raise SettingsError(
            f"{KEY_VARIABLE} must be an API key of the service, as `python -m service keys new` "
            f"prints it. Received: {len(value)} characters that are not all visible ASCII"
        )
    return value


def _checked_path(value: str) -> str | None:
    if value and not Path(value).exists():
        raise SettingsError(
            f"{CA_VARIABLE} must be a PEM file with certificates: there is none. "
            f"Received: {value!r}"
        )
    return value or None


def _checked_url(variable: str, value: str) -> str:
    expected = f"{variable} must be the address of the service, like {DEFAULT_URL}"
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as exc:
        raise SettingsError(f"{expected}: {exc}. Received: {value!r}") from exc
    if parts.scheme not in ("http", "https"):
        raise SettingsError(
            f"{expected}: it has to begin with http:// or https://. Received: {value!r}"
        )
    if not parts.hostname or any(character.isspace() for character in value):
        raise SettingsError(f"{expected}: the host name is missing or invalid. Received: {value!r}")
    if parts.username is not None or parts.password is not None:
        # The value is not repeated: it contains a password, and this text is shown on the page.
        raise SettingsError(f"{expected}: it cannot contain a user name or a password.")
    if parts.query or parts.fragment:
        raise SettingsError(f"{expected}: it cannot contain '?' or '#'. Received: {value!r}")
    if port == 0:
        raise SettingsError(f"{expected}: port 0 is not a port to connect to. Received: {value!r}")
    return value.rstrip("/")
