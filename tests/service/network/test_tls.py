"""HTTPS by a service with real certificates, which are replaced while it runs."""

from __future__ import annotations

import logging
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives import serialization

from frontend.client import ServiceClient, open_session
from frontend.errors import ServiceUnreachable
from service.network.tls import Certificate, CertificateError, read_certificate
from service.settings import Settings, SettingsError
from tests.service.conftest import Server, environment, refused_start, serving
from tests.service.images import coloured
from tests.service.models.disturb import paused
from tests.service.network.pairs import AUTHORITY, Pair, pair, served, trust

EXPIRY = "resnet_tls_certificate_expiry_timestamp_seconds"


@pytest.fixture
def files(tmp_path: Path) -> Pair:
    """A valid pair."""
    found = pair(tmp_path)
    found.write()
    return found


@pytest.fixture(scope="module")
def running(
    quick_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Pair]]:
    """A service with HTTPS, and its files, which each test leaves valid."""
    files = pair(tmp_path_factory.mktemp("tls"))
    files.write()
    with serving(
        models_dir=quick_root,
        trusted=trust(),
        watch_s=0.05,
        request_timeout_s=2,
        tls_hsts_s=60,
        **files.settings,
    ) as server:
        yield server, files


def expiry(server: Server) -> float:
    lines = server.client.get("/metrics").text.splitlines()
    (value,) = [line.split()[1] for line in lines if line.startswith(f"{EXPIRY} ")]
    return float(value)


def test_predictions_are_served_over_https_and_nothing_over_http(
    running: tuple[Server, Pair],
) -> None:
    server, _ = running

    assert server.predict(coloured()).status_code == 200
    assert server.client.get("/healthz").headers["strict-transport-security"] == "max-age=60"
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{server.port}/healthz")


def test_a_new_certificate_is_for_the_next_connection_and_the_old_ones_stay(
    running: tuple[Server, Pair],
) -> None:
    server, files = running
    with httpx.Client(base_url=server.url, verify=trust()) as client:
        client.get("/healthz")
        before = expiry(server)

        new = files.write(days=60)
        server.wait(lambda: served(server.port) == new, "served", 60)

        # On the connection that it has.
        assert client.get("/healthz").status_code == 200
        assert expiry(server) - before == pytest.approx(30 * 86_400, abs=3600)


def test_a_wrong_pair_is_kept_out_and_named_once(running: tuple[Server, Pair]) -> None:
    server, files = running
    good = files.write()
    server.wait(lambda: served(server.port) == good, "served", 60)
    key = files.key.read_bytes()
    ends = expiry(server)

    files.write(days=90)
    files.key.write_bytes(key)
    server.wait_logged("the key is not that of the certificate")
    files.certificate.unlink()
    server.wait_logged("SERVICE_TLS_CERTIFICATE: the file can't be read")

    assert served(server.port) == good
    assert expiry(server) == ends
    assert server.log().count("the key is not that of the certificate") == 1
    again = files.write()
    server.wait(lambda: served(server.port) == again, "served", 60)


def test_a_connection_that_begins_no_handshake_is_closed_in_time(
    running: tuple[Server, Pair],
) -> None:
    server, _ = running
    # asyncio's own limit is 60 s.
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        assert connection.recv(1) == b""


def test_the_health_check_of_the_container_asks_over_https(running: tuple[Server, Pair]) -> None:
    server, files = running

    def check(**settings: object) -> int:
        command = [sys.executable, "-m", "service.network.health"]
        return subprocess.run(command, env=environment(**settings), check=False).returncode

    assert check(port=server.port, tls_certificate=files.certificate) == 0
    assert check(port=server.port) == 1


def test_the_page_trusts_the_authority_that_it_is_told_of(
    running: tuple[Server, Pair], tmp_path: Path
) -> None:
    url = running[0].url
    authority = tmp_path / "ca.crt"
    AUTHORITY.cert_pem.write_to_path(str(authority))

    with open_session(url, ca_bundle=str(authority)) as session:
        assert ServiceClient(session, url).readiness().status == "ready"
    with (
        open_session(url) as session,
        pytest.raises(ServiceUnreachable, match="no certificate that this page trusts"),
    ):
        ServiceClient(session, url).readiness()


def test_a_signal_has_the_certificate_read_again(tmp_path: Path, files: Pair) -> None:
    models = tmp_path / "models"
    models.mkdir()
    with serving(
        models_dir=models, ready=False, trusted=trust(), watch_s=0, **files.settings
    ) as server:
        server.wait(lambda: server.client.get("/healthz").status_code == 200, "up")
        new = files.write()
        server.process.send_signal(signal.SIGHUP)

        server.wait(lambda: served(server.port) == new, "served", 60)


def test_shutdown_waits_for_a_request_and_not_for_idle_connections(
    quick_root: Path, files: Pair
) -> None:
    with (
        serving(models_dir=quick_root, trusted=trust(), **files.settings) as server,
        httpx.Client(base_url=server.url, verify=trust()) as idle,
        ThreadPoolExecutor(1) as pool,
    ):
        idle.get("/healthz")
        with paused(server):
            answer = pool.submit(server.predict, coloured())
            server.wait_in_flight(1)
            server.process.send_signal(signal.SIGTERM)
            server.wait_closed()

        assert answer.result().status_code == 200
        assert server.process.wait(60) == 0
        # An idle client does not answer the end of its connection.
        assert "timeout graceful shutdown exceeded" not in server.log()


def test_a_service_without_a_usable_pair_does_not_start(tmp_path: Path, files: Pair) -> None:
    key = files.key.read_bytes()
    files.write()
    files.key.write_bytes(key)

    line = refused_start(models_dir=tmp_path, **files.settings)

    assert "SERVICE_TLS_KEY: the key is not that of the certificate" in line


def test_one_file_without_the_other_is_refused(files: Pair) -> None:
    for name, path in files.settings.items():
        with pytest.raises(SettingsError, match=f"Expected both, or neither.*{path.name}"):
            read_certificate(Settings(**{name: path}))
    assert read_certificate(Settings()) is None
    with pytest.raises(SettingsError, match="SERVICE_TLS_HSTS_S"):
        read_certificate(Settings(tls_hsts_s=60))


def test_files_that_are_gone_for_a_while_are_named_each_time(
    files: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    certificate = Certificate(*files)
    content = files.certificate.read_bytes()
    for _ in range(2):
        files.certificate.unlink()
        certificate.look()
        certificate.look()
        files.certificate.write_bytes(content)
        certificate.look()
        certificate.look()

    assert caplog.text.count("the certificate stays as it was") == 2
    assert caplog.text.count("as before again") == 2


def encrypt(key: Path) -> None:
    """Protect it with a password."""
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda files: files.certificate.unlink(), "SERVICE_TLS_CERTIFICATE: the file can't be"),
        (lambda files: files.key.write_bytes(b""), "SERVICE_TLS_KEY: there is no key without a"),
        (lambda files: encrypt(files.key), "SERVICE_TLS_KEY: there is no key without a password"),
        (
            lambda files: files.certificate.write_bytes(files.key.read_bytes()),
            "SERVICE_TLS_CERTIFICATE: there is no certificate in the file",
        ),
    ],
    ids=["missing", "empty", "encrypted", "key for certificate"],
)
def test_the_text_says_which_file_is_wrong(
    files: Pair, damage: Callable[[Pair], object], what: str
) -> None:
    damage(files)

    with pytest.raises(CertificateError, match=what):
        Certificate(*files)


def test_an_expired_certificate_is_served_with_a_warning(
    files: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    certificate = Certificate(*files)
    assert caplog.text == ""

    with caplog.at_level(logging.WARNING):
        Certificate(*files, clock=lambda: certificate.expires + 1)

    assert "expired on" in caplog.text


def test_tls_1_1_is_too_old(files: Pair) -> None:
    assert Certificate(*files).context.minimum_version is ssl.TLSVersion.TLSv1_2
