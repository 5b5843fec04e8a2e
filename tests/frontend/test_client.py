from __future__ import annotations

import json
import socket
import threading
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from frontend.cards import Failed
from frontend.client import ServiceClient, open_session
from frontend.errors import Refused, ServiceTimeout, ServiceUnreachable, UnexpectedResponse
from tests.frontend.fake_service import KERAS, TORCH, FakeService, listed, problem, respond

LAST = b"the last connection"


def predict(client: ServiceClient) -> object:
    return client.predict(b"image", model=TORCH["name"], version=1, top_k=5)


def test_models_come_with_the_default_first_and_only_those_ready() -> None:
    loading = listed("aaa", "pytorch", state="loading", runtime=None, accuracy=None)
    model_list = FakeService(models=[TORCH, KERAS, loading]).client().models()

    assert [model.name for model in model_list.ready] == [TORCH["name"], KERAS["name"]]
    assert len(model_list.models) == 3


def test_the_image_is_sent_as_it_is_with_model_version_and_count() -> None:
    fake = FakeService()

    timed = fake.client().predict(b"\xff\xd8 bytes", model=KERAS["name"], version=1, top_k=3)

    (request,) = fake.requests_to("/predict")
    assert request.body == b"\xff\xd8 bytes"
    assert parse_qs(urlsplit(str(request.url)).query) == {
        "model": [KERAS["name"]],
        "version": ["1"],
        "top_k": ["3"],
    }
    assert [top.label for top in timed.response.predictions] == ["ship", "airplane", "bird"]
    assert timed.round_trip_ms > 0


@pytest.mark.parametrize("status", [400, 404, 413, 415, 422, 429, 500, 503])
def test_a_problem_keeps_its_status_code_detail_and_wait(status: int) -> None:
    fake = FakeService(
        fail={"/predict": lambda: problem(status, "some_code", "What happened.", retry_after=7)}
    )

    with pytest.raises(Refused, match=r"^What happened\.$") as refused:
        predict(fake.client())

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
    "response",
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
def test_a_response_of_another_program_is_unexpected_and_names_the_url(
    response: requests.Response,
) -> None:
    fake = FakeService(fail={"/models": lambda: response})

    with pytest.raises(UnexpectedResponse, match=r"service\.invalid:8000"):
        fake.client().models()


def test_a_score_outside_0_to_1_is_unexpected() -> None:
    def too_sure() -> requests.Response:
        good = FakeService().predict(TORCH["name"], 1).json()
        good["predictions"][0]["score"] = 1.5
        return respond(200, good)

    with pytest.raises(UnexpectedResponse, match=r"predictions\.0\.score"):
        predict(FakeService(fail={"/predict": too_sure}).client())


class Listener:
    """A server that reads one request per connection, sends `response` and closes.

    None: nothing is sent, and the connections stay open.
    """

    def __init__(self, response: bytes | None) -> None:
        self._response = response
        self._received: list[bytes] = []
        self._open: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self._port = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._port}"

    def _serve(self) -> None:
        while True:
            connection, _ = self._server.accept()
            self._open.append(connection)
            request = connection.recv(65536)
            if request == LAST:
                return
            self._received.append(request)
            if self._response is not None:
                connection.sendall(self._response)
                connection.close()

    def requests(self) -> list[bytes]:
        """Stop, and return all requests; connections are accepted in order, so none is missed."""
        with socket.create_connection(("127.0.0.1", self._port)) as last:
            last.sendall(LAST)
            self._thread.join(60)
        assert not self._thread.is_alive()
        self._server.close()
        for connection in self._open:
            connection.close()
        return self._received


@pytest.mark.parametrize(
    ("fake", "takes"),
    [
        (FakeService(), True),
        (FakeService(feedback=False), False),
        (FakeService(older=True), False),
    ],
    ids=["on", "off", "older"],
)
def test_whether_feedback_is_kept_is_asked_without_giving_any(
    fake: FakeService, takes: bool
) -> None:
    assert fake.client().takes_feedback() is takes
    assert fake.requests_to("/feedback")[0].body == b"{}"


def test_one_failed_model_of_a_comparison_keeps_its_problem() -> None:
    fake = FakeService(fail={KERAS["name"]: lambda: problem(503, "worker_died", "It ended.")})

    found = fake.client().compare(b"image", top_k=3)

    assert [each.key for each in found.answers] == ["cifar10-resnet20-pytorch v1"]
    (failed,) = (each for each in found.results if isinstance(each, Failed))
    assert (failed.model.name, failed.error.code) == (KERAS["name"], "worker_died")


def test_the_card_and_the_record_of_a_model_are_asked_by_version() -> None:
    fake = FakeService()

    assert fake.client().card(TORCH["name"], 3).tested is not None
    assert fake.client().record(TORCH["name"], 3).labels
    assert [urlsplit(str(request.url)).query for request in fake.seen] == ["version=3"] * 2


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_closed_port_means_the_service_is_away() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with open_session(url) as session:
        client = ServiceClient(session, url)

        with pytest.raises(ServiceUnreachable, match=f"Nothing answers at {url}"):
            client.readiness()
        with pytest.raises(ServiceUnreachable):
            predict(client)


def test_reads_try_to_connect_three_times_and_uploads_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempts: list[object] = []

    def refuse(address: object, *_: object, **__: object) -> socket.socket:
        attempts.append(address)
        raise ConnectionRefusedError

    # The only place where urllib3 opens sockets.
    monkeypatch.setattr("urllib3.util.connection.create_connection", refuse)
    url = "http://127.0.0.1:9"
    with open_session(url) as session:
        client = ServiceClient(session, url)

        with pytest.raises(ServiceUnreachable):
            client.models()
        reads = len(attempts)
        with pytest.raises(ServiceUnreachable):
            predict(client)

    assert (reads, len(attempts) - reads) == (3, 1)


def test_a_connection_that_is_cut_is_not_retried() -> None:
    listener = Listener(b"")
    with open_session(listener.url) as session, pytest.raises(ServiceUnreachable):
        predict(ServiceClient(session, listener.url))

    assert len(listener.requests()) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_request_to_a_busy_service_is_not_retried(status: int) -> None:
    body = json.dumps({"title": "t", "status": status, "detail": "d", "code": "c"}).encode()
    head = f"HTTP/1.1 {status} x\r\nContent-Type: application/problem+json\r\nRetry-After: 1\r\n"
    response = f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
    listener = Listener(response)
    with open_session(listener.url) as session, pytest.raises(Refused):
        ServiceClient(session, listener.url).models()

    assert len(listener.requests()) == 1


def test_silence_means_the_service_is_slow() -> None:
    listener = Listener(None)
    with open_session(listener.url) as session:
        client = ServiceClient(session, listener.url, get_timeout=(60, 0.2))

        with pytest.raises(ServiceTimeout, match=r"within 0\.2 seconds"):
            client.models()

    assert len(listener.requests()) == 1
