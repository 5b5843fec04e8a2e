"""Clients that are slow, silent, endless, or gone: bytes on a socket."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
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


def send_slowly(connection: socket.socket, parts: Iterable[bytes], pause_s: float = 0.1) -> None:
    try:
        for part in parts:
            connection.sendall(part)
            time.sleep(pause_s)
    except ConnectionError:
        pass


def parsed(answer: bytes) -> httpx.Response:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    headers = [tuple(line.split(b": ", 1)) for line in lines]
    return httpx.Response(int(first.split()[1]), headers=headers, content=body)


def test_requests_that_do_not_arrive_in_time_are_closed_and_slow_no_one(
    torch_bundle_root: Path,
) -> None:
    def slow(start: bytes, drips: bytes) -> bytes:
        with connect(server) as connection:
            connection.sendall(start)
            send_slowly(connection, (bytes([byte]) for byte in drips))
            return receive_all(connection)

    with (
        serving(models_dir=torch_bundle_root, request_timeout_s=2) as server,
        ThreadPoolExecutor(60) as pool,
    ):
        started = time.monotonic()
        slow_ones = [
            pool.submit(slow, start, drips)
            for start, drips in [
                (b"", REQUEST[:60]),
                (b"", b""),
                (REQUEST + b"\x89PNG", b""),
                (REQUEST, bytes(60)),
                (HEALTH, REQUEST[:60]),
            ]
            for _ in range(12)
        ]
        times = []
        for _ in range(10):
            begun = time.perf_counter()
            assert server.predict(coloured()).status_code == 200
            times.append(time.perf_counter() - begun)
        answers = [future.result() for future in slow_ones]
        elapsed = time.monotonic() - started
        log = server.log()

    assert np.median(times) < 1
    assert elapsed < 15
    for answer in answers[:48]:
        assert_problem(parsed(answer), 408, "request_timeout")
    for answer in answers[48:]:  # the second request on a connection
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"HTTP/1.1 408 " in answer
    assert "Traceback" not in log


def test_a_declared_length_over_the_limit_is_refused_before_the_body_is_sent(
    server: Server,
) -> None:
    with connect(server) as connection:
        connection.sendall(
            REQUEST.replace(b"length: 1000", b"length: 900000000\r\nexpect: 100-continue")
        )
        answer = receive_all(connection)

    assert_problem(parsed(answer), 413, "request_too_large")
    assert parsed(answer).headers["connection"] == "close"


def test_a_client_that_may_send_is_told_to_go_on(server: Server) -> None:
    image = coloured()
    with connect(server) as connection:
        length = f"length: {len(image)}\r\nexpect: 100-continue\r\nconnection: close".encode()
        connection.sendall(REQUEST.replace(b"length: 1000", length))
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(image)

        assert parsed(receive_all(connection)).status_code == 200


def test_a_client_that_sends_on_after_its_refusal_reads_the_refusal_and_is_closed(
    server: Server,
) -> None:
    def body() -> Iterable[bytes]:
        for _ in range(10_000):
            yield bytes(1_000_000)

    started = time.monotonic()
    with connect(server) as connection:
        connection.sendall(REQUEST.replace(b"content-length: 1000", b"transfer-encoding: chunked"))
        try:
            for part in body():
                connection.sendall(b"%x\r\n%b\r\n" % (len(part), part))
        except ConnectionError:
            pass
        answer = receive_all(connection)

    assert_problem(parsed(answer), 413, "request_too_large")
    assert time.monotonic() - started < 20


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
def test_a_head_without_end_is_cut(server: Server, start: bytes, more: bytes) -> None:
    before, started = server.memory(), time.monotonic()
    with connect(server) as connection:
        connection.sendall(start)
        try:
            while time.monotonic() - started < 20:  # thrown away
                connection.sendall(more)
        except ConnectionError:
            pass
        answer = receive_all(connection)

    assert time.monotonic() - started < 15
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 404 ")), answer[:100]
    assert server.memory() - before < 50e6


def test_two_thousand_idle_connections_keep_no_one_out(server: Server) -> None:
    connections = [connect(server) for _ in range(2000)]
    try:
        assert server.predict(coloured()).status_code == 200
    finally:
        for connection in connections:
            connection.close()


def test_requests_on_one_connection_are_answered_in_order(server: Server) -> None:
    missing = HEALTH.replace(b"/healthz", b"/nowhere")
    with connect(server) as connection:
        connection.sendall(
            HEALTH + missing + HEALTH.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
        )
        answer = receive_all(connection)

    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"404", b"200"]


def test_a_request_that_offers_http_2_is_answered_in_http_1(server: Server) -> None:
    image = coloured()
    offer = f"{len(image)}\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk"
    request = REQUEST.replace(b"1000", offer.encode()) + image
    with connect(server) as connection:
        for part in (request, request[:150], request[150:-10], request[-10:]):
            connection.sendall(part)
            time.sleep(0.05)
        connection.sendall(HEALTH.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        answer = receive_all(connection)

    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200"] * 3, answer


def test_bytes_that_are_no_http_get_a_problem(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00 not http\r\n\r\n")
        answer = receive_all(connection)

    assert_problem(parsed(answer), 400, "malformed_request")


def test_connect_is_refused_at_once_and_costs_no_traceback(server: Server) -> None:
    before, started = len(server.log()), time.monotonic()
    for target in (b"x:1", b"/predict"):
        with connect(server) as connection:
            connection.sendall(b"CONNECT %b HTTP/1.1\r\nhost: x\r\n\r\n" % target)
            answer = receive_all(connection)

        assert_problem(parsed(answer), 400, "malformed_request")
        assert b"proxy" in answer

    assert time.monotonic() - started < 15
    assert "Traceback" not in server.log()[before:]


def test_whole_requests_are_answered_before_bytes_that_are_no_http_close_the_connection(
    server: Server,
) -> None:
    with connect(server) as connection:
        connection.sendall(HEALTH + HEALTH.replace(b"/healthz", b"/nowhere") + b"GARBAGE\r\n\r\n")
        answer = receive_all(connection)

    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"404"]


def test_a_body_without_a_length_gets_its_problem(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(REQUEST.replace(b"content-length: 1000\r\n", b"") + coloured())
        answer = receive_all(connection)

    assert_problem(parsed(answer), 400, "malformed_request")
    assert b"body is empty" in answer


def test_a_client_that_leaves_costs_no_traceback(server: Server) -> None:
    before = len(server.log())
    for sent in (REQUEST, REQUEST + b"half", REQUEST[:30], REQUEST + bytes(1000), HEALTH + REQUEST):
        with connect(server) as connection:
            connection.sendall(sent)
    assert server.predict(coloured()).status_code == 200
    log = server.log()[before:]

    assert "Traceback" not in log
    assert "ERROR" not in log


def test_a_path_can_not_forge_a_line_of_the_log(server: Server) -> None:
    server.client.get("/a%0aERROR%20forged")

    server.wait(lambda: "/a%0aERROR%20forged 404" in server.log(), "logged", 10)
    assert not [line for line in server.log().splitlines() if line.startswith("ERROR")]
