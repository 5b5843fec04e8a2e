from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from frontend.client import (
    Refused,
    ServiceAway,
    ServiceClient,
    ServiceSlow,
    UnexpectedAnswer,
    open_session,
)
from tests.frontend.fake_service import KERAS, TORCH, FakeService, listed, problem, respond


def ask(client: ServiceClient) -> object:
    return client.predict(b"picture", model=TORCH["name"], version=1, top_k=5)


def test_models_come_with_the_default_first_and_only_those_ready() -> None:
    loading = listed("aaa", "pytorch", state="loading", runtime=None, accuracy=None)
    catalogue = FakeService(models=[TORCH, KERAS, loading]).client().models()

    assert [model.name for model in catalogue.ready] == [TORCH["name"], KERAS["name"]]
    assert len(catalogue.models) == 3


def test_the_picture_is_sent_as_it_is_with_model_version_and_count() -> None:
    fake = FakeService()

    asked = fake.client().predict(b"\xff\xd8 bytes", model=KERAS["name"], version=1, top_k=3)

    (request,) = fake.asked("/predict")
    assert request.body == b"\xff\xd8 bytes"
    assert parse_qs(urlsplit(request.url).query) == {
        "model": [KERAS["name"]],
        "version": ["1"],
        "top_k": ["3"],
    }
    assert [guess.label for guess in asked.prediction.predictions] == ["ship", "airplane", "bird"]
    assert asked.round_trip_ms > 0


@pytest.mark.parametrize("status", [400, 404, 413, 415, 422, 429, 500, 503])
def test_a_problem_keeps_its_status_code_detail_and_wait(status: int) -> None:
    fake = FakeService(
        fail={"/predict": lambda: problem(status, "some_code", "What happened.", retry_after=7)}
    )

    with pytest.raises(Refused, match=r"^What happened\.$") as refused:
        ask(fake.client())

    assert (refused.value.problem.status, refused.value.problem.code) == (status, "some_code")
    assert refused.value.retry_after == 7


def test_a_retry_after_that_is_a_date_is_left_out() -> None:
    late = problem(503, "not_ready", "Loading.")
    late.headers["Retry-After"] = "Wed, 21 Oct 2026 07:28:00 GMT"
    fake = FakeService(fail={"/readyz": lambda: late})

    with pytest.raises(Refused) as refused:
        fake.client().readiness()

    assert refused.value.retry_after is None


@pytest.mark.parametrize(
    "answer",
    [
        respond(200, b"<html>a router</html>", "text/html"),
        respond(200, {"models": "none"}),
        respond(200, [1, 2]),
        respond(302, b"", headers={"Location": "http://elsewhere.invalid/"}),
        respond(404, {"detail": "Not Found"}),
        respond(502, b"Bad Gateway", "text/html"),
        respond(503, {"status": 503}, "application/problem+json"),
        respond(500, b"{", "application/problem+json"),
    ],
    ids=[
        "html",
        "other-shape",
        "a-list",
        "redirect",
        "another-api",
        "proxy",
        "poor-problem",
        "broken-problem",
    ],
)
def test_an_answer_of_something_else_is_unexpected_and_names_the_url(
    answer: requests.Response,
) -> None:
    fake = FakeService(fail={"/models": lambda: answer})

    with pytest.raises(UnexpectedAnswer, match=r"service\.invalid:8000"):
        fake.client().models()


def test_a_score_outside_0_to_1_is_unexpected() -> None:
    def too_sure() -> requests.Response:
        good = json.loads(FakeService()._predict(requests.Request("POST", "http://x/p?model=" + TORCH["name"] + "&top_k=1").prepare()).raw.read())  # fmt: skip
        good["predictions"][0]["score"] = 1.5
        return respond(200, good)

    with pytest.raises(UnexpectedAnswer, match=r"predictions\.0\.score"):
        ask(FakeService(fail={"/predict": too_sure}).client())


@contextmanager
def listener(answer: bytes | None) -> Iterator[tuple[str, list[bytes]]]:
    """A socket that reads one request per connection, sends `answer` (None: nothing, held open) and closes."""
    heard: list[bytes] = []
    held: list[socket.socket] = []
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            heard.append(connection.recv(65536))
            held.append(connection)
            if answer is not None:
                connection.sendall(answer)
                connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}", heard
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(5)
        for connection in held:
            connection.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_closed_port_means_the_service_is_away() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with open_session(url) as session:
        client = ServiceClient(session, url)

        with pytest.raises(ServiceAway, match=f"Nothing answers at {url}"):
            client.readiness()
        with pytest.raises(ServiceAway):
            ask(client)


def test_reads_try_to_connect_three_times_and_pictures_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempts: list[object] = []

    def refuse(address: object, *_: object, **__: object) -> socket.socket:
        attempts.append(address)
        raise ConnectionRefusedError

    # The one place that opens sockets for urllib3; counting there counts what leaves the machine.
    monkeypatch.setattr("urllib3.util.connection.create_connection", refuse)
    url = "http://127.0.0.1:9"
    with open_session(url) as session:
        client = ServiceClient(session, url)

        with pytest.raises(ServiceAway):
            client.models()
        reads = len(attempts)
        with pytest.raises(ServiceAway):
            ask(client)

    assert (reads, len(attempts) - reads) == (3, 1)


def test_a_connection_that_is_cut_is_not_retried() -> None:
    with listener(b"") as (url, heard), open_session(url) as session:
        with pytest.raises(ServiceAway):
            ask(ServiceClient(session, url))

        assert len(heard) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_service_is_not_asked_again_by_itself(status: int) -> None:
    body = json.dumps({"title": "t", "status": status, "detail": "d", "code": "c"}).encode()
    head = f"HTTP/1.1 {status} x\r\nContent-Type: application/problem+json\r\nRetry-After: 1\r\n"
    answer = f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
    with listener(answer) as (url, heard), open_session(url) as session:
        with pytest.raises(Refused):
            ServiceClient(session, url).models()

        assert len(heard) == 1


def test_silence_means_the_service_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frontend.client.LOOK", (1.0, 0.2))
    with listener(None) as (url, heard), open_session(url) as session:
        with pytest.raises(ServiceSlow, match=r"within 0\.2 seconds"):
            ServiceClient(session, url).models()

        assert len(heard) == 1
