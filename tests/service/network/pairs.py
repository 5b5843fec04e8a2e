"""An authority that signs certificates for loopback, and the files that a service reads."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path
from typing import Any, NamedTuple

import trustme

AUTHORITY = trustme.CA()
NAMES = ("127.0.0.1", "localhost", "service")


class Pair(NamedTuple):
    """The files of a certificate with its chain, and of its key."""

    certificate: Path
    key: Path

    def write(self, days: float = 30) -> str:
        """A new certificate and key that end in `days`; the certificate alone, as PEM."""
        ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
        issued = AUTHORITY.issue_cert(*NAMES, not_after=ends)
        self.certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        self.key.write_bytes(issued.private_key_pem.bytes())
        return normalised(issued.cert_chain_pems[0].bytes().decode())

    @property
    def settings(self) -> dict[str, Any]:
        """Of the service."""
        return {"tls_certificate": self.certificate, "tls_key": self.key}


def pair(folder: Path) -> Pair:
    """Files in `folder`, which are not written yet."""
    return Pair(folder / "tls.crt", folder / "tls.key")


def trust() -> ssl.SSLContext:
    """What a client needs to trust the authority."""
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


def served(port: int) -> str:
    """The certificate that a new connection gets, as PEM."""
    return normalised(ssl.get_server_certificate(("127.0.0.1", port)))


def normalised(pem: str) -> str:
    """The same text for the same certificate, however its lines are broken."""
    return ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(pem))
