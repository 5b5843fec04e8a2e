"""The load generator against a server with known responses, in virtual time."""

from __future__ import annotations

import asyncio
import itertools
import selectors
from pathlib import Path

import pytest

from benchmarks.load import Client, Generator, Load, Report

SERVICE_S = 0.05
BODY = b"an image"


class VirtualSelector(selectors.SelectSelector):
    """Returns at once and moves the clock to the next timer instead of waiting for it."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("Nothing is scheduled and nothing can arrive from outside.")
        self.now += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock is that of a `VirtualSelector`."""

    def __init__(self) -> None:
        self._virtual = VirtualSelector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


class Connection(asyncio.Transport):
    """The client's end of a connection to a `Server`, in memory."""

    def __init__(self, server: Server, client: Client) -> None:
        super().__init__()
        self._server = server
        self._client = client
        self._closing = False
        client.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._server.receive(bytes(data), self._client)

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self._client.connection_lost, None)


class Server:
    """Serves one request at a time in `SERVICE_S` seconds; every fourth gets a 429 at once.

    With `hang_up` it closes each connection after the response, unannounced, as servers do with
    idle ones.
    """

    def __init__(self, *, hang_up: bool) -> None:
        self.received = 0
        self._hang_up = hang_up
        self._lock = asyncio.Lock()
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()

    async def connect(self) -> Client:
        client = Client()
        Connection(self, client)
        return client

    def receive(self, request: bytes, client: Client) -> None:
        head, _, body = request.partition(b"\r\n\r\n")
        assert head.startswith(b"POST /predict?top_k=1 HTTP/1.1\r\n")
        assert body == BODY
        self.received += 1
        task = asyncio.get_running_loop().create_task(self._respond(client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _respond(self, client: Client) -> None:
        status = b"429 Too Many Requests"
        if next(self._numbers) % 4:
            status = b"200 OK"
            async with self._lock:
                await asyncio.sleep(SERVICE_S)
        client.data_received(b"HTTP/1.1 " + status + b"\r\ncontent-length: 2\r\n\r\n{}")
        if self._hang_up:
            client.close()


def load(
    folder: Path, connections: int = 1, rate: float | None = None, warmup_s: float = 0.0
) -> Load:
    (folder / "image").write_bytes(BODY)
    return Load(
        "http://127.0.0.1:8000/predict?top_k=1",
        [str(folder / "image")],
        connections=connections,
        rate=rate,
        seconds=1.0,
        warmup_s=warmup_s,
    )


def measure(load: Load, *, hang_up: bool = False) -> tuple[Report, int]:
    """The report, and how many requests the server received."""

    async def run() -> tuple[Report, int]:
        server = Server(hang_up=hang_up)
        clock = asyncio.get_running_loop().time
        return await Generator(load, clock, server.connect).run(), server.received

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(run())


def test_a_closed_loop_counts_the_responses_of_its_time(tmp_path: Path) -> None:
    report, received = measure(load(tmp_path, connections=2, warmup_s=0.3))

    assert report.statuses["200"] == pytest.approx(1.0 / SERVICE_S, abs=1)
    assert report.statuses["429"] == pytest.approx(report.statuses["200"] / 3, abs=1)
    assert report.requests_per_second == report.statuses["200"]
    assert sum(report.statuses.values()) < received, "the warm-up is not in it"
    assert report.failed == 0
    assert report.latency_ms["p50"] == pytest.approx(2 * 1000 * SERVICE_S), "two share one slot"
    assert report.refusal_ms["max"] == 0


def test_an_open_loop_counts_the_waiting_that_a_slow_server_causes(tmp_path: Path) -> None:
    # 40 requests arrive in a second, and 30 of them take 50 ms each, one after another.
    report, received = measure(load(tmp_path, rate=40))

    assert sum(report.statuses.values()) == received == 40
    assert report.statuses == {"200": 30, "429": 10}
    assert report.requests_per_second == pytest.approx(1 / SERVICE_S, abs=1), "not those of later"
    # The 30th ends after 1.5 s; it was due with the 39th request, after 38 / 40 s.
    assert report.latency_ms["max"] == pytest.approx(1000 * (30 * SERVICE_S - 38 / 40), abs=1)


def test_an_open_loop_uses_no_connection_that_the_server_has_closed(tmp_path: Path) -> None:
    report, received = measure(load(tmp_path, rate=5), hang_up=True)

    assert sum(report.statuses.values()) == received == 5
    assert report.failed == 0


def test_requests_are_sent_over_a_real_socket(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(BODY)

    handlers: list[asyncio.Task[None]] = []

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not reader.at_eof():
            if await reader.read(1000):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        writer.close()
        await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(asyncio.get_running_loop().create_task(respond(reader, writer)))

    async def run() -> Report:
        async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/predict"
            load = Load(url, [str(tmp_path / "image")], rate=50, seconds=0.1)
            report = await Generator(load, itertools.count(0, 0.001).__next__).run()
            await asyncio.gather(*handlers)
            return report

    report = asyncio.run(run())

    assert report.statuses == {"200": 5}
    assert report.failed == 0
