"""Load generator for an HTTP server, run as its own process: a closed or an open loop.

Closed loop: N connections, each sends one request after another. A slow server slows its clients
down, and the time they wait is not measured. Open loop: requests arrive at a constant rate whatever
the server does, and latency counts from the moment a request was due, so it includes waiting for a
free connection or for the generator itself (no "coordinated omission", Tene 2013).

    python -m benchmarks.load '{"url": "http://127.0.0.1:8000/predict", "bodies": ["photo.jpg"],
                                "connections": 8, "seconds": 5}'

prints one line of JSON (`Report`). HTTP is written by hand, with asyncio and uvicorn's parser: a
client library costs several times the CPU, which the server under test would lack.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import httptools
import numpy as np

# Connections of an open loop; further requests wait here, which their latency includes.
MAX_CONNECTIONS = 2_000
LAST_RESPONSES_S = 60.0  # timeout for the responses that are still in flight at the end


@dataclass(frozen=True)
class Load:
    """What to send: with `rate` (requests/s) an open loop, else a closed one on `connections`."""

    url: str
    bodies: list[str]  # files, sent in turn
    connections: int = 1
    rate: float | None = None
    seconds: float = 5.0
    warmup_s: float = 0.0
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "image/jpeg"})


@dataclass(frozen=True)
class Report:
    """Responses in the measured time; latencies in milliseconds, of status 200 unless noted."""

    seconds: float
    statuses: dict[str, int]
    requests_per_second: float  # of status 200
    latency_ms: dict[str, float]  # p50, p95, p99, max
    refusal_ms: dict[str, float]  # of 429 and 503
    cpu_seconds: float  # of this generator
    failed: int  # requests whose connection broke


class Client(asyncio.Protocol):
    """One keep-alive connection; one request at a time."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._response: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio once connected."""
        self._transport = cast("asyncio.Transport", transport)

    async def request(self, content: bytes) -> int:
        """Send a whole request; returns the status of the response, 0 if the connection breaks."""
        self._response = asyncio.get_running_loop().create_future()
        self._transport.write(content)
        return await self._response

    def data_received(self, data: bytes) -> None:
        """Called by asyncio with received bytes."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Called by the parser at the end of a response."""
        status = self._parser.get_status_code()
        if not self._parser.should_keep_alive():
            self.close()
        self._resolve(status)

    def connection_lost(self, _exc: Exception | None) -> None:
        """Called by asyncio: a request in flight has failed."""
        self._resolve(0)

    @property
    def closed(self) -> bool:
        """Whether no further request can be sent."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def _resolve(self, status: int) -> None:
        if self._response is not None and not self._response.done():
            self._response.set_result(status)


class Generator:
    """Sends a `Load` and collects the responses.

    Args:
        clock: seconds of a monotonic clock.
        connect: opens a connection; None: TCP to the address of the load.
    """

    def __init__(
        self,
        load: Load,
        clock: Callable[[], float] = time.perf_counter,
        connect: Callable[[], Awaitable[Client]] | None = None,
    ) -> None:
        parts = urlsplit(load.url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        headers = "".join(f"{name}: {value}\r\n" for name, value in load.headers.items())
        self._contents = []
        for file in load.bodies:
            body = Path(file).read_bytes()
            head = (
                f"POST {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n{headers}"
                f"Content-Length: {len(body)}\r\n\r\n"
            )
            self._contents.append(head.encode() + body)
        self._load = load
        self._clock = clock
        self._connect = connect or self._open_connection
        self._responses: list[tuple[float, float, int]] = []  # due, received, status
        self._sent = 0

    async def run(self) -> Report:
        """Warm up, measure, report."""
        begin = self._clock() + self._load.warmup_s
        cpu = 0.0

        async def note_cpu() -> None:
            nonlocal cpu
            await asyncio.sleep(max(0.0, begin - self._clock()))
            cpu = time.process_time()

        noting = asyncio.create_task(note_cpu())
        end = begin + self._load.seconds
        await (self._open_loop(end) if self._load.rate else self._closed_loop(end))
        await noting
        await asyncio.sleep(0)  # closed connections are released in the next loop iteration
        return self._report(begin, end, time.process_time() - cpu)

    async def _open_connection(self) -> Client:
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(Client, *self._address))[1]

    async def _closed_loop(self, end: float) -> None:
        async def one() -> None:
            client = await self._connect()
            while (now := self._clock()) < end:
                client = await self._request(client, now)
            client.close()

        await asyncio.gather(*(one() for _ in range(self._load.connections)))

    async def _open_loop(self, end: float) -> None:
        assert self._load.rate is not None  # noqa: S101 - an open loop has one
        free: list[Client] = []
        slots = asyncio.Semaphore(MAX_CONNECTIONS)
        in_flight: set[asyncio.Task[None]] = set()

        async def one(due: float) -> None:
            async with slots:
                while free and free[-1].closed:  # by the server, because it was idle
                    free.pop()
                client = free.pop() if free else await self._connect()
                free.append(await self._request(client, due))

        due = self._clock()
        while due < end:
            while due <= self._clock() and due < end:
                task = asyncio.create_task(one(due))
                in_flight.add(task)
                task.add_done_callback(in_flight.discard)
                due += 1 / self._load.rate
            await asyncio.sleep(max(0.0, due - self._clock()))
        if in_flight:
            await asyncio.wait(in_flight, timeout=LAST_RESPONSES_S)
        for client in free:
            client.close()

    async def _request(self, client: Client, due: float) -> Client:
        """One request on `client`; returns the connection for the next one."""
        self._sent += 1
        status = await client.request(self._contents[self._sent % len(self._contents)])
        self._responses.append((due, self._clock(), status))
        return await self._connect() if client.closed else client

    def _report(self, begin: float, end: float, cpu_seconds: float) -> Report:
        # A closed loop counts responses received in the time; an open one requests due in it,
        # however late the response. Throughput is of responses received in the time: an overloaded
        # server finishes as many requests from before it as it leaves for later.
        key = 0 if self._load.rate else 1
        counted = [response for response in self._responses if begin <= response[key] < end]
        succeeded = sum(begin <= at < end and status == 200 for _, at, status in self._responses)
        statuses = Counter(status for _, _, status in counted)
        return Report(
            seconds=end - begin,
            statuses={str(status): count for status, count in sorted(statuses.items()) if status},
            requests_per_second=succeeded / (end - begin),
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
    """Run the load that the argument describes; print the report as one line."""
    load = Load(**json.loads(sys.argv[1]))
    # Installed with uvicorn; it halves the CPU time of the generator.
    import uvloop  # noqa: PLC0415 - not on every platform

    report = uvloop.run(Generator(load).run())
    sys.stdout.write(json.dumps(dataclasses.asdict(report)) + os.linesep)


if __name__ == "__main__":
    main()
