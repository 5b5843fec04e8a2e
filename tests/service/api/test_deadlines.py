"""Deadlines and overload over HTTP: what is refused, when to come again, what always answers."""

from __future__ import annotations

import select
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.app import create_app
from service.models.model import ServedModel
from service.settings import Settings
from tests.service.api.test_problems import assert_problem
from tests.service.conftest import Server, serving
from tests.service.images import coloured
from tests.service.models.disturb import ask_and_stay, paused
from tests.service.tasks import until

HEADER = "X-Request-Timeout-Ms"
PNG = {"content-type": "image/png"}


@asynccontextmanager
async def application(
    root: Path, queue_size: int = 256
) -> AsyncIterator[tuple[httpx.AsyncClient, ServedModel]]:
    """A client of an application in this process, and its model."""
    app = create_app(Settings(models_dir=root, queue_size=queue_size))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://service") as client,
    ):
        (model,) = app.state.registry.all()
        await until(lambda: model.state == "ready")
        yield client, model


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "soon", "3600001", "9" * 50, "\u0661", ""])
def test_a_deadline_that_is_no_number_of_milliseconds_is_refused(
    server: Server, value: str
) -> None:
    for path in ("/predict", "/predict/batch"):
        response = server.client.post(path, headers=[(HEADER.encode(), value.encode())])

        assert_problem(response, 422, "invalid_parameter")
        assert HEADER in response.json()["detail"]


def test_a_deadline_that_is_met_changes_nothing(server: Server) -> None:
    headers = {HEADER: "3600000"}
    one = server.client.post("/predict", headers=headers | PNG, content=coloured())
    several = server.client.post(
        "/predict/batch", headers=headers, files=[("files", ("a", coloured()))]
    )

    assert one.status_code == several.status_code == 200


@pytest.mark.anyio
async def test_a_request_that_cannot_meet_its_deadline_is_refused_at_the_door(
    quick_root: Path,
) -> None:
    async with application(quick_root) as (client, model):
        model.queue.pace.record(1, 10.0)

        async def ask(path: str = "/predict", **headers: str) -> httpx.Response:
            return await client.post(path, content=coloured(), headers=PNG | headers)

        with model.queue.admit(2):
            for path in ("/predict", "/predict/batch"):
                late = await ask(path, **{HEADER: "5000"})
                assert_problem(late, 429, "deadline_unreachable")
                assert late.headers["retry-after"] == "15"
        with model.queue.admit(4):
            # The limit of the setting is 30 s.
            by_setting = await ask()
            assert_problem(by_setting, 429, "deadline_unreachable")
            assert by_setting.headers["retry-after"] == "10"
        with model.queue.admit(2):
            # In time. What is served makes the queue faster.
            assert (await ask(**{HEADER: "25000"})).status_code == 200
            assert (await ask()).status_code == 200
        metrics = (await client.get("/metrics")).text
        assert 'resnet_problems_total{code="deadline_unreachable"} 3.0' in metrics


@pytest.mark.anyio
async def test_a_full_queue_names_the_time_that_it_needs(quick_root: Path) -> None:
    async with application(quick_root, queue_size=2) as (client, model):
        with model.queue.admit(2):
            unknown = await client.post("/predict", content=coloured(), headers=PNG)
            model.queue.pace.record(2, 7.0)
            known = await client.post("/predict", content=coloured(), headers=PNG)

        assert_problem(unknown, 429, "queue_full")
        assert_problem(known, 429, "queue_full")
        assert [r.headers["retry-after"] for r in (unknown, known)] == ["1", "7"]


def test_a_request_that_expires_in_the_queue_is_given_up_and_costs_no_forward_pass(
    quick_root: Path,
) -> None:
    with serving(models_dir=quick_root) as server:
        server.predict(coloured())
        before = server.metric("resnet_batch_images_sum")
        with paused(server):
            # One batch is taken, one is prefetched; what comes then waits.
            held = []
            for number in (1, 2):
                held.append(ask_and_stay(server))
                server.wait_in_flight(int(before) + number)
            one = server.client.post("/predict", headers={HEADER: "200"} | PNG, content=coloured())
            several = server.client.post(
                "/predict/batch", headers={HEADER: "200"}, files=[("files", ("a", coloured()))]
            )
            assert_problem(one, 504, "deadline_exceeded")
            assert_problem(several, 504, "deadline_exceeded")
            server.wait_queued(1)
        for connection in held:
            connection.close()

        assert server.predict(coloured()).status_code == 200
        assert server.metric("resnet_batch_images_sum") == before + 3


def test_a_body_that_arrives_too_late_for_the_deadline_is_not_awaited(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        head = f"host: x\r\ncontent-type: image/png\r\ncontent-length: 1000\r\n{HEADER}: 50\r\n\r\n"
        connection.sendall(f"POST /predict HTTP/1.1\r\n{head}".encode() + b"start")
        connection.settimeout(60)

        answer = connection.recv(65536)

    assert answer.startswith(b"HTTP/1.1 504 ")


def test_health_endpoints_answer_while_the_queue_and_the_memory_for_bodies_are_full(
    quick_root: Path,
) -> None:
    limits: dict[str, Any] = {"queue_size": 2, "max_batch": 1, "max_request_bytes": 10_000}
    with (
        serving(models_dir=quick_root, request_timeout_s=600, **limits) as server,
        ExitStack() as stay,
    ):

        def upload() -> socket.socket:
            """A batch that takes nearly a largest body of the budget, and never ends."""
            connection = socket.create_connection(("127.0.0.1", server.port))
            stay.enter_context(connection)
            head = "host: x\r\ncontent-type: multipart/form-data; boundary=b\r\n"
            size = "content-length: 10000\r\n\r\n"
            part = b'--b\r\ncontent-disposition: form-data; name="files"; filename="a"\r\n\r\n'
            body = part + bytes(9_990 - len(part))
            connection.sendall(f"POST /predict/batch HTTP/1.1\r\n{head}{size}".encode() + body)
            return connection

        # There is room for four.
        refused, _, _ = select.select([upload() for _ in range(5)], [], [], 60)
        assert len(refused) == 1
        bodies_full = server.predict(coloured())
        assert_problem(bodies_full, 429, "queue_full")
        assert "bodies" in bodies_full.json()["detail"]
        for path in ("/healthz", "/readyz", "/metrics"):
            assert server.client.get(path).status_code == 200

    with serving(models_dir=quick_root, **limits) as server, paused(server):
        held = [ask_and_stay(server)]
        server.wait_in_flight(1)
        for waiting in (1, 2):
            held.append(ask_and_stay(server))
            server.wait_queued(waiting)
        assert_problem(server.predict(coloured()), 429, "queue_full")
        for path in ("/healthz", "/readyz", "/metrics"):
            assert server.client.get(path).status_code == 200
        for connection in held:
            connection.close()
