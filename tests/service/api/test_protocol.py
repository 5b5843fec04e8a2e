"""Slow, silent, endless and vanished clients: bytes on a socket."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from tests.service.api.test_problems import assert_problem
from tests.service.conftest import Server, serving
from tests.service.images import coloured

REQUEST = (
    b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\ncontent-length: 1000\r\n\r\n"
)
HEALTH = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def receive_all(connection: socket.socket) -> bytes:
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except ConnectionError:
        pass
    return received


def send_until_closed(connection: socket.socket, data: bytes, pause_s: float = 0) -> None:
    """Send `data` again and again until the server closes the connection."""
    deadline = time.monotonic() + 240
    with suppress(ConnectionError):
        while True:
            connection.sendall(data)
            time.sleep(pause_s)
            assert time.monotonic() < deadline, "the connection stays open"


def parsed(response: bytes) -> httpx.Response:
    head, _, body = response.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    headers = [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
    return httpx.Response(int(first.split()[1]), headers=headers, content=body)


def test_an_idle_connection_stays_open_as_long_as_the_setting_says(
    quick_root: Path,
) -> None:
    with (
        serving(models_dir=quick_root, keep_alive_s=6) as server,
        connect(server) as connection,
    ):
        connection.sendall(HEALTH)
        first = connection.recv(65536)
        answered = time.monotonic()
        rest = receive_all(connection)

        assert parsed(first + rest).status_code == 200
        assert time.monotonic() - answered > 5.5, "uvicorn's own 5 s are too short"


@pytest.mark.parametrize(
    ("hosts", "version", "refused"),
    [
        (b"", b"1.1", "Received: 0"),
        (b"host: a\r\nhost: b\r\n", b"1.1", "Received: 2"),
        (b"host: a\r\nhost: a\r\n", b"1.0", "Received: 2"),
        (b"", b"1.0", None),
    ],
    ids=["missing", "doubled", "doubled in 1.0", "missing in 1.0"],
)
def test_a_request_names_one_host(
    server: Server, hosts: bytes, version: bytes, refused: str | None
) -> None:
    with connect(server) as connection:
        connection.sendall(
            b"GET /healthz HTTP/" + version + b"\r\nconnection: close\r\n" + hosts + b"\r\n"
        )
        response = parsed(receive_all(connection))

    if refused is None:
        assert response.status_code == 200
    else:
        assert_problem(response, 400, "malformed_request")
        assert "Expected one Host header" in response.json()["detail"]
        assert response.json()["detail"].endswith(refused)


def test_requests_that_do_not_arrive_in_time_are_closed_and_block_no_other(
    quick_root: Path,
) -> None:
    def drip(connection: socket.socket, byte: bytes) -> bytes:
        if byte:
            send_until_closed(connection, byte, pause_s=0.1)
        return receive_all(connection)

    with (
        serving(models_dir=quick_root, request_timeout_s=2) as server,
        ThreadPoolExecutor(60) as pool,
        ExitStack() as connections,
    ):
        slow = []
        for start, byte in [
            (b"GET /", b"a"),
            (b"", b""),
            (REQUEST + b"\x89PNG", b""),
            (REQUEST, b"\0"),
            (HEALTH + b"GET /", b"a"),  # the second request on its connection
        ]:
            for _ in range(12):
                connection = connections.enter_context(connect(server))
                connection.sendall(start)
                slow.append(pool.submit(drip, connection, byte))
        statuses = [server.predict(coloured()).status_code for _ in range(10)]
        responses = [future.result() for future in slow]
        log = server.log()

    assert statuses == [200] * 10
    for response in responses[:48]:
        assert_problem(parsed(response), 408, "request_timeout")
    for response in responses[48:]:
        assert response.startswith(b"HTTP/1.1 200 ")
        assert b"HTTP/1.1 408 " in response
    assert "Traceback" not in log


def test_a_declared_length_over_the_limit_is_refused_before_the_body_is_sent(
    server: Server,
) -> None:
    with connect(server) as connection:
        connection.sendall(
            REQUEST.replace(b"length: 1000", b"length: 900000000\r\nexpect: 100-continue")
        )
        response = receive_all(connection)

    assert_problem(parsed(response), 413, "request_too_large")
    assert parsed(response).headers["connection"] == "close"


def test_an_acceptable_request_is_told_to_continue(server: Server) -> None:
    image = coloured()
    with connect(server) as connection:
        length = f"length: {len(image)}\r\nexpect: 100-continue\r\nconnection: close".encode()
        connection.sendall(REQUEST.replace(b"length: 1000", length))
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(image)

        assert parsed(receive_all(connection)).status_code == 200


def test_a_client_that_keeps_sending_can_read_its_refusal_and_is_disconnected(
    server: Server,
) -> None:
    chunk = b"%x\r\n%b\r\n" % (1_000_000, bytes(1_000_000))
    with connect(server) as connection:
        connection.sendall(REQUEST.replace(b"content-length: 1000", b"transfer-encoding: chunked"))
        send_until_closed(connection, chunk)
        response = receive_all(connection)

    assert_problem(parsed(response), 413, "request_too_large")


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"GET /", b"a" * 65536),
        (b"GET / HTTP/1.1\r\nx: ", b"a" * 65536),
        (b"GET / HTTP/1.1\r\n", b"x: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 1000),
        (
            b"POST /nowhere HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n",
            b"x: aaaaaaaaaaaaaaaaaaa\r\n" * 2000,
        ),
    ],
    ids=["path", "one header", "headers", "trailers"],
)
def test_an_endless_head_is_refused_in_little_memory(
    server: Server, start: bytes, more: bytes
) -> None:
    before = server.memory()
    with connect(server) as connection:
        connection.sendall(start)
        send_until_closed(connection, more)
        response = receive_all(connection)

    assert response.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 404 ")), response[:100]
    assert server.memory() - before < 50e6


def test_two_thousand_idle_connections_block_no_request(server: Server) -> None:
    connections = [connect(server) for _ in range(2000)]
    try:
        assert server.predict(coloured()).status_code == 200
    finally:
        for connection in connections:
            connection.close()


def test_responses_on_one_connection_are_in_order(server: Server) -> None:
    missing = HEALTH.replace(b"/healthz", b"/nowhere")
    with connect(server) as connection:
        connection.sendall(
            HEALTH + missing + HEALTH.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
        )
        response = receive_all(connection)

    assert [part[:3] for part in response.split(b"HTTP/1.1 ")[1:]] == [b"200", b"404", b"200"]


def test_a_request_that_offers_http_2_gets_an_http_1_response(server: Server) -> None:
    image = coloured()
    offer = (
        b"%d\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk"
        % len(image)
    )
    request = REQUEST.replace(b"1000", offer) + image
    with connect(server) as connection:
        for part in (request, request[:150], request[150:-10], request[-10:]):
            connection.sendall(part)
            # Usually the parts are then read one by one; the responses are the same if not.
            time.sleep(0.05)
        connection.sendall(HEALTH.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        response = receive_all(connection)

    assert [part[:3] for part in response.split(b"HTTP/1.1 ")[1:]] == [b"200"] * 3, response


@pytest.mark.parametrize("sent", [b"\x16\x03\x01", b"GET / HTTP/1.1\r\nx: " + b"a" * 70_000])
def test_bytes_that_are_not_http_get_a_problem(server: Server, sent: bytes) -> None:
    with connect(server) as connection:
        connection.sendall(sent + b"\r\nhost: a\r\n\r\n")
        response = receive_all(connection)

    assert_problem(parsed(response), 400, "malformed_request")


def test_connect_is_refused_without_a_traceback(server: Server) -> None:
    before = len(server.log())
    for target in (b"x:1", b"/predict"):
        with connect(server) as connection:
            connection.sendall(b"CONNECT %b HTTP/1.1\r\nhost: x\r\n\r\n" % target)
            response = receive_all(connection)

        assert_problem(parsed(response), 400, "malformed_request")
        assert b"proxy" in response

    assert "Traceback" not in server.log()[before:]


def test_complete_requests_get_responses_before_invalid_bytes_close_the_connection(
    server: Server,
) -> None:
    with connect(server) as connection:
        connection.sendall(HEALTH + HEALTH.replace(b"/healthz", b"/nowhere") + b"GARBAGE\r\n\r\n")
        response = receive_all(connection)

    assert [part[:3] for part in response.split(b"HTTP/1.1 ")[1:]] == [b"200", b"404"]


def test_a_body_without_a_length_gets_its_problem(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(REQUEST.replace(b"content-length: 1000\r\n", b"") + coloured())
        response = receive_all(connection)

    assert_problem(parsed(response), 400, "malformed_request")
    assert b"body is empty" in response


def test_clients_that_disconnect_cause_no_traceback(server: Server) -> None:
    before = len(server.log())
    for sent in (REQUEST, REQUEST + b"half", REQUEST[:30], REQUEST + bytes(1000), HEALTH + REQUEST):
        with connect(server) as connection:
            connection.sendall(sent)
    assert server.predict(coloured()).status_code == 200
    # At least the heads that are alone on their connections, and our own request.
    server.wait(lambda: server.log().count("POST /predict ", before) >= 4, "logged")
    log = server.log()[before:]

    assert "Traceback" not in log
    assert "ERROR" not in log


def test_a_path_cannot_forge_a_log_line(server: Server) -> None:
    server.client.get("/a%0aERROR%20forged")

    server.wait(lambda: "/a%0aERROR%20forged 404" in server.log(), "logged")
    assert not [line for line in server.log().splitlines() if line.startswith("ERROR")]
