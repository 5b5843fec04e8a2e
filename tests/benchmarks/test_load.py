"""The load generator, against a server whose answers are known."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

from benchmarks.load import Generator, Load, Report

ANSWER_S = 0.05


def measure(file: Path, *, hang_up: bool = False, **load: float) -> tuple[Report, int]:
    """What is reported of a server that answers one request at a time, every fourth with 429 and at once, and how many it got.

    With `hang_up` it closes the connection after each answer, unannounced, as servers do with idle ones.
    """
    file.write_bytes(b"a picture")
    numbers = itertools.count(1)
    seen = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"POST /predict?top_k=1 HTTP/1.1\r\n")
                assert await reader.readexactly(9) == b"a picture"
                seen += 1
                refused = next(numbers) % 4 == 0
                if not refused:
                    async with busy:
                        await asyncio.sleep(ANSWER_S)
                status = b"429 Too Many Requests" if refused else b"200 OK"
                writer.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 2\r\n\r\n{}")
                if hang_up:
                    writer.close()
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def run() -> Report:
        nonlocal busy
        busy = asyncio.Lock()
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            url = f"http://127.0.0.1:{port}/predict?top_k=1"
            report = await Generator(Load(url, [str(file)], **load)).run()  # type: ignore[arg-type]
            await asyncio.sleep(0.05)  # for the server to see that they are gone
            return report

    busy = asyncio.Lock()
    return asyncio.run(run()), seen


def test_a_closed_loop_counts_what_is_answered_in_its_time(tmp_path: Path) -> None:
    report, seen = measure(tmp_path / "picture", connections=2, seconds=1.0, warmup_s=0.3)

    answered = report.statuses["200"]
    assert 8 <= answered <= 1 + 1.0 / ANSWER_S
    assert abs(report.statuses["429"] - answered / 3) <= 2
    assert sum(report.statuses.values()) < seen, "the warm-up is not in it"
    assert report.failed == 0
    assert report.latency_ms["p50"] >= 1000 * ANSWER_S
    assert report.refusal_ms["p50"] < report.latency_ms["p50"]


def test_an_open_loop_counts_the_waiting_that_a_slow_server_causes(tmp_path: Path) -> None:
    # 40 requests arrive in a second, and 30 of them take 50 ms each, one after another.
    report, seen = measure(tmp_path / "picture", rate=40, seconds=1.0)

    assert sum(report.statuses.values()) == seen == 40
    assert report.statuses == {"200": 30, "429": 10}
    assert 15 <= report.requests_per_second <= 1 / ANSWER_S, (
        "what is answered in its time, not later"
    )
    assert report.latency_ms["max"] >= 1000 * (30 * ANSWER_S - 1.0), "from the moment it was due"
    assert report.latency_ms["max"] > 3 * 1000 * ANSWER_S


def test_an_open_loop_takes_no_connection_that_the_server_has_closed(tmp_path: Path) -> None:
    report, seen = measure(tmp_path / "picture", hang_up=True, rate=5, seconds=1.0)

    assert sum(report.statuses.values()) == seen == 5
    assert report.failed == 0
