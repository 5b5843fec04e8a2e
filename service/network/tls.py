"""The certificate of HTTPS, which is replaced while the service runs when its files change."""

from __future__ import annotations

import logging
import ssl
import time

# The only decoder of certificates in the standard library; a test holds what is used of it.
from _ssl import _test_decode_cert  # type: ignore[attr-defined]
from collections.abc import Callable
from pathlib import Path

from service.settings import Settings, SettingsError

log = logging.getLogger("service")


class CertificateError(Exception):
    """The files are not a certificate and its key; the text says why, and names them."""


class Certificate:
    """A certificate and its key, and the context that gives new connections the last valid pair.

    Args:
        certificate: A PEM file, with the chain.
        key: A PEM file without a password.
        clock: Seconds since 1970.

    Raises:
        CertificateError: They can't be used.
    """

    def __init__(
        self, certificate: Path, key: Path, clock: Callable[[], float] = time.time
    ) -> None:
        self._certificate, self._key = certificate, key
        self._clock = clock
        self._error: str | None = None
        # `pair`: what the files had when they were valid, the certificate first.
        # Of the certificate that is served, in seconds since 1970.
        self.expires = 0.0
        self._seen = self.pair = self._contents()
        self._serving = self._load()
        # For what listens; each handshake moves to what is served at that moment.
        self.context = self._load()
        self.context.sni_callback = self._hand_out

    def look(self) -> None:
        """Serve what the files have now. What can't be used is logged once and changes nothing."""
        try:
            seen = self._contents()
            if seen != self._seen:
                # Of a wrong pair only a change of the files can make a right one.
                self._seen = seen
                self._serving = self._load()
                self.pair, self._error = seen, None
                log.info("the certificate is another one now, valid until %s", self._until)
            elif self._error is not None and seen == self.pair:
                self._error = None
                log.info("the files of the certificate are as before again")
        except CertificateError as exc:
            if str(exc) != self._error:
                log.error("the certificate stays as it was. %s", exc)
            self._error = str(exc)

    def _contents(self) -> tuple[bytes, bytes]:
        found = []
        for variable, path in self._files:
            try:
                found.append(path.read_bytes())
            except OSError as exc:
                raise CertificateError(
                    f"{variable}: the file can't be read. Expected a PEM file. "
                    f"Received: '{path}': {exc.strerror}"
                ) from exc
        return found[0], found[1]

    @property
    def _files(self) -> tuple[tuple[str, Path], tuple[str, Path]]:
        return ("SERVICE_TLS_CERTIFICATE", self._certificate), ("SERVICE_TLS_KEY", self._key)

    def _load(self) -> ssl.SSLContext:
        """A context with what the files have now."""
        (certificate_variable, _), (key_variable, _) = self._files
        try:
            expires = ssl.cert_time_to_seconds(_test_decode_cert(self._certificate)["notAfter"])
        except (OSError, KeyError, ValueError) as exc:  # an SSLError is an OSError
            raise CertificateError(
                f"{certificate_variable}: there is no certificate in the file. Expected a PEM file "
                f"with the certificate first and its chain below. Received: '{self._certificate}'"
            ) from exc
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            # Without a password OpenSSL would ask for one on the terminal.
            context.load_cert_chain(self._certificate, self._key, password="")
        except OSError as exc:
            what = "there is no key without a password in the file"
            if getattr(exc, "reason", None) == "KEY_VALUES_MISMATCH":
                what = "the key is not that of the certificate"
            raise CertificateError(
                f"{key_variable}: {what}. Expected the key of '{self._certificate}' as a PEM file "
                f"without a password. Received: '{self._key}'"
            ) from exc
        self.expires = expires
        if expires <= self._clock():
            log.warning("the certificate '%s' expired on %s", self._certificate, self._until)
        return context

    @property
    def _until(self) -> str:
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self.expires))

    def _hand_out(
        self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _: ssl.SSLContext
    ) -> None:
        """Called by OpenSSL in each handshake, with a server name or without one."""
        connection.context = self._serving


def read_certificate(settings: Settings) -> Certificate | None:
    """The certificate of the settings; None: HTTP.

    Raises:
        SettingsError: Only one of the files is set, they can't be used, or browsers shall use HTTPS
            and there is none.
    """
    files = settings.tls_certificate, settings.tls_key
    if files == (None, None):
        if settings.tls_hsts_s:
            raise SettingsError(
                "SERVICE_TLS_HSTS_S: browsers can't be told to use HTTPS by a service without it. "
                "Expected SERVICE_TLS_CERTIFICATE and SERVICE_TLS_KEY too, or 0: a proxy that adds "
                f"HTTPS sends this header itself. Received: {settings.tls_hsts_s}"
            )
        return None
    certificate, key = files
    if certificate is None or key is None:
        raise SettingsError(
            "SERVICE_TLS_CERTIFICATE, SERVICE_TLS_KEY: one is not enough. Expected both, or "
            f"neither. Received: '{certificate or key}'"
        )
    try:
        return Certificate(certificate, key)
    except CertificateError as exc:
        raise SettingsError(str(exc)) from exc
