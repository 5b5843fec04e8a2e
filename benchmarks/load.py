"""Load on an HTTP server, from a process of its own: closed loop (N connections, one request after another) or open loop.

In a closed loop a slow server slows its clients down, and their waiting is not seen. In an open loop requests arrive at a
constant rate whatever the server does, and the latency counts from the moment a request was due, so that waiting for a free
connection or for the generator itself is in it (the "coordinated omission" of Tene 2013 is avoided).

    python -m benchmarks.load '{"url": "http://127.0.0.1:8000/predict", "bodies": ["photo.jpg"], "connections": 8, "seconds": 5}'

prints one line of JSON (:class:`Report`). The protocol is spoken by hand, over asyncio and the parser that uvicorn uses,
because a client library costs several times the CPU, which the server under test would lack.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httptools
import numpy as np

MOST_CONNECTIONS = (
    2_000  # of an open loop; beyond it requests wait here, which their latency counts
)
PATIENCE_S = 60.0  # for the last answers


@dataclass(frozen=True)
class Load:
    """What to send. With ``rate`` (requests/s) an open loop, else a closed one over ``connections``."""

    url: str
    bodies: list[str]  # files, sent in turn
    connections: int = 1
    rate: float | None = None
    seconds: float = 5.0
    warmup_s: float = 0.0
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "image/jpeg"})


@dataclass(frozen=True)
class Report:
    """What came back in the measured time; latencies in milliseconds, of answers 200 unless named otherwise."""

    seconds: float
    statuses: dict[str, int]
    requests_per_second: float  # answers 200
    latency_ms: dict[str, float]  # p50, p95, p99, max
    refusal_ms: dict[str, float]  # of 429 and 503
    cpu_seconds: float  # that this generator used itself
    failed: int  # connections that broke under a request


class Client(asyncio.Protocol):
    """One keep-alive connection; one request at a time."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = transport

    async def request(self, content: bytes) -> int:
        """Send a whole request and return the status of the answer, 0 if the connection breaks."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(content)  # type: ignore[attr-defined]
        return await self._answer

    def data_received(self, data: bytes) -> None:
        """Pass on what came."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Called by the parser at the end of an answer."""
        status = self._parser.get_status_code()
        if not self._parser.should_keep_alive():
            self.close()
        self._resolve(status)

    def connection_lost(self, _exc: Exception | None) -> None:
        """A request under way has failed."""
        self._resolve(0)

    @property
    def closed(self) -> bool:
        """Whether it takes no more requests."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def _resolve(self, status: int) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(status)


class Generator:
    """Sends a :class:`Load` and gathers the answers."""

    def __init__(self, load: Load) -> None:
        parts = urlsplit(load.url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        headers = "".join(f"{name}: {value}\r\n" for name, value in load.headers.items())
        self._contents = []
        for file in load.bodies:
            body = Path(file).read_bytes()
            head = f"POST {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
            self._contents.append(head.encode() + body)
        self._load = load
        self._answers: list[
            tuple[float, float, int]
        ] = []  # when it was due, when it was answered, status
        self._sent = 0

    async def run(self) -> Report:
        """Warm up, measure, report."""
        begin = time.perf_counter() + self._load.warmup_s
        cpu = 0.0

        async def note_cpu() -> None:
            nonlocal cpu
            await asyncio.sleep(max(0.0, begin - time.perf_counter()))
            cpu = time.process_time()

        noting = asyncio.create_task(note_cpu())
        end = begin + self._load.seconds
        await (self._open_loop(end) if self._load.rate else self._closed_loop(end))
        await noting
        await asyncio.sleep(0)  # what was closed is gone at the next turn of the event loop
        return self._report(begin, end, time.process_time() - cpu)

    async def _connect(self) -> Client:
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(Client, *self._address))[1]

    async def _closed_loop(self, end: float) -> None:
        async def one() -> None:
            client = await self._connect()
            while (now := time.perf_counter()) < end:
                client = await self._request(client, now)
            client.close()

        await asyncio.gather(*(one() for _ in range(self._load.connections)))

    async def _open_loop(self, end: float) -> None:
        assert self._load.rate is not None  # noqa: S101 - an open loop has one
        free: list[Client] = []
        room = asyncio.Semaphore(MOST_CONNECTIONS)
        under_way: set[asyncio.Task[None]] = set()

        async def one(due: float) -> None:
            async with room:
                while free and free[-1].closed:  # by the server, for it was idle
                    free.pop()
                client = free.pop() if free else await self._connect()
                free.append(await self._request(client, due))

        due = time.perf_counter()
        while due < end:
            while due <= time.perf_counter() and due < end:
                task = asyncio.create_task(one(due))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                due += 1 / self._load.rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
        if under_way:
            await asyncio.wait(under_way, timeout=PATIENCE_S)
        for client in free:
            client.close()

    async def _request(self, client: Client, due: float) -> Client:
        """One request over ``client``; the connection for the next one."""
        self._sent += 1
        status = await client.request(self._contents[self._sent % len(self._contents)])
        self._answers.append((due, time.perf_counter(), status))
        return await self._connect() if client.closed else client

    def _report(self, begin: float, end: float, cpu_seconds: float) -> Report:
        # A closed loop counts what was answered in the time; an open one what was due in it, however late. The throughput of
        # either is what was answered in the time: an overloaded server answers as many from before it as it leaves for later.
        moment = 0 if self._load.rate else 1
        counted = [answer for answer in self._answers if begin <= answer[moment] < end]
        answered = sum(
            begin <= moment < end and status == 200 for _, moment, status in self._answers
        )
        statuses = Counter(status for _, _, status in counted)
        return Report(
            seconds=end - begin,
            statuses={str(status): count for status, count in sorted(statuses.items()) if status},
            requests_per_second=answered / (end - begin),
            latency_ms=_summary([b - a for a, b, status in counted if status == 200]),
            refusal_ms=_summary([b - a for a, b, status in counted if status in (429, 503)]),
            cpu_seconds=cpu_seconds,
            failed=statuses[0],
        )


def _summary(latencies: list[float]) -> dict[str, float]:
    if not latencies:
        return {}
    values = np.percentile(np.array(latencies) * 1000, [50, 95, 99, 100])
    return dict(zip(("p50", "p95", "p99", "max"), values.round(3).tolist(), strict=True))


def main() -> None:
    """Carry out the load that the argument describes; the answer is one line on standard output."""
    load = Load(**json.loads(sys.argv[1]))
    # uvloop is what uvicorn runs on as well, so it is there; it halves what the generator costs.
    import uvloop  # noqa: PLC0415 - not on every platform

    report = uvloop.run(Generator(load).run())
    sys.stdout.write(json.dumps(dataclasses.asdict(report)) + os.linesep)


if __name__ == "__main__":
    main()
