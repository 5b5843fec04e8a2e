"""Measure what a first visit of the page transfers, beside Streamlit's own hello page.

    python -m tests.browser.first_load     prints both, in turn on the same machine

Serves the models of this checkout. Each visit is of a browser without a cache.
"""

from __future__ import annotations

import sys
import time
from base64 import b64decode
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from playwright.sync_api import Browser

from tests.browser import stack
from tests.frontend.servers import ROOT, free_url, serve

VISITS = 5
ANSWER = ".panel[aria-busy=false] .bars li"
HELLO = "h1"
WAIT_MS = 90_000


@dataclass
class Visit:
    """What one visit took.

    Attributes:
        seconds: until what the visitor came for is drawn.
        requests: over HTTP, answered.
        encodings: of their bodies, with the number of requests.
        files: bytes of them, with headers, as they were on the wire.
        messages: bytes that the WebSocket brought.
        largest: the largest files by name.
    """

    seconds: float = 0.0
    requests: int = 0
    encodings: Counter[str] = field(default_factory=Counter)
    files: int = 0
    messages: int = 0
    largest: Counter[str] = field(default_factory=Counter)


def main() -> None:
    """Start both pages, visit them in turn, and print the medians."""
    with TemporaryDirectory() as folder, stack.browser() as browser:
        logs, url = Path(folder), free_url()
        hello = [
            sys.executable,
            "-m",
            "streamlit",
            "hello",
            "--server.port",
            url.rpartition(":")[2],
        ]
        with (
            stack.running(ROOT / "models", logs) as served,
            serve(hello, {}, logs / "hello.log", f"{url}/_stcore/health"),
        ):
            pages = {"page": (served.page, ANSWER), "hello": (url, HELLO)}
            for address, sign in pages.values():
                visit(browser, address, sign)  # the servers' own caches
            visits: dict[str, list[Visit]] = {name: [] for name in pages}
            for _ in range(VISITS):
                for name, (address, sign) in pages.items():
                    visits[name].append(visit(browser, address, sign))
    for name, found in visits.items():
        report(name, found)
    ratio = median(a.seconds / b.seconds for a, b in zip(*visits.values(), strict=True))
    print(f"time of the page over that of hello, median of {VISITS} pairs: {ratio:.2f}")  # noqa: T201


def visit(browser: Browser, address: str, sign: str) -> Visit:
    """Open `address` without a cache, and wait for `sign`."""
    found, names = Visit(), {}
    context = browser.new_context()
    page = context.new_page()
    network = context.new_cdp_session(page)

    def responded(event: dict[str, Any]) -> None:
        response = event["response"]
        names[event["requestId"]] = response["url"].rpartition("/")[2][:40]
        headers = {name.lower(): value for name, value in response["headers"].items()}
        found.encodings[headers.get("content-encoding", "none")] += 1

    def finished(event: dict[str, Any]) -> None:
        if event["requestId"] in names:
            found.requests += 1
            found.files += int(event["encodedDataLength"])
            found.largest[names[event["requestId"]]] += int(event["encodedDataLength"])

    def received(event: dict[str, Any]) -> None:
        frame = event["response"]
        data = frame["payloadData"]
        found.messages += len(b64decode(data) if frame["opcode"] == 2 else data.encode())

    network.on("Network.responseReceived", responded)
    network.on("Network.loadingFinished", finished)
    network.on("Network.webSocketFrameReceived", received)
    network.send("Network.enable")
    begun = time.monotonic()
    page.goto(address)
    page.locator(sign).first.wait_for(timeout=WAIT_MS)
    found.seconds = time.monotonic() - begun
    page.wait_for_load_state("networkidle")
    context.close()
    return found


def report(name: str, visits: list[Visit]) -> None:
    """Print the medians of `visits`, and the largest files of the last one."""
    last = visits[-1]
    print(  # noqa: T201
        f"{name}: {median(each.seconds for each in visits):.1f} s, "
        f"{median(each.requests for each in visits):.0f} requests with "
        f"{median(each.files for each in visits) / 1e6:.2f} MB "
        f"(content-encoding {dict(last.encodings)}), "
        f"{median(each.messages for each in visits) / 1e3:.0f} kB of messages"
    )
    for file, size in last.largest.most_common(8):
        print(f"  {size / 1e3:7.0f} kB  {file}")  # noqa: T201


if __name__ == "__main__":
    main()
