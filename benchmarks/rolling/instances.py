"""Two instances behind HAProxy are replaced in turn under load; no request may fail.

    .venv/bin/python -m benchmarks.rolling.instances                    # 5,000 requests

It needs `haproxy` and runs it with deploy/haproxy/haproxy.cfg. Clients send requests all the time;
the instance that does not serve is started, the one that serves gets SIGTERM when the new one is
ready, and so on. The exit code is 1 if any response is not 200 with the right label.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import requests
import typer
from rich.console import Console

from benchmarks.models import ROOT, resnet20
from benchmarks.ours import serving
from benchmarks.peers.running import free_port

CONFIG = ROOT / "deploy/haproxy/haproxy.cfg"
CLIENTS = 4
DRAIN_DELAY_S = "3"
CALM_S = 2.0  # between an instance that is ready and the end of the other one

console = Console(highlight=False)


def main(
    wanted: Annotated[int, typer.Option("--requests", help="Requests to send.", min=1)] = 5000,
) -> None:
    """Run, and print what the clients saw."""
    if shutil.which("haproxy") is None:
        console.print("This needs haproxy: apt-get install haproxy", style="red")
        sys.exit(2)
    ports = free_port(), free_port()
    with _proxy(*ports) as url, contextlib.ExitStack() as serves:
        _start(serves, ports[0])
        _until_serving(url)
        clients = Clients(url, wanted)
        with ThreadPoolExecutor(CLIENTS) as pool:
            running = [pool.submit(clients.ask) for _ in range(CLIENTS)]
            replaced = 0
            while not clients.finished.is_set():
                replacement = contextlib.ExitStack()
                _start(replacement, ports[(replaced + 1) % 2])
                time.sleep(CALM_S)
                serves.close()  # SIGTERM, and its end
                serves.push(replacement)
                replaced += 1
            for client in running:
                client.result()
    for what, count in clients.seen.most_common():
        console.print(f"{count:8} {what}", markup=False)
    console.print(f"{replaced:8} instances replaced")
    sys.exit(set(clients.seen) != {"right"})


class Clients:
    """Clients that share a number of requests."""

    def __init__(self, url: str, wanted: int) -> None:
        self.seen: Counter[str] = Counter()
        self.finished = threading.Event()
        self._url = url
        self._wanted = wanted
        self._images = [path.read_bytes() for path in resnet20().images]
        self._labels = [self._label(requests.Session(), number) for number in self._numbers()]

    def ask(self) -> None:
        """Send requests until there have been enough."""
        with requests.Session() as session:
            while self.seen.total() < self._wanted:
                number = self.seen.total() % len(self._images)
                try:
                    found = self._label(session, number)
                except requests.RequestException as exc:
                    found = f"lost: {exc!r}"
                self.seen["right" if found == self._labels[number] else found] += 1
        self.finished.set()

    def _numbers(self) -> range:
        return range(len(self._images))

    def _label(self, session: requests.Session, number: int) -> str:
        """The label of an image, or what went wrong."""
        headers = {"Content-Type": "image/jpeg"}
        response = session.post(self._url, self._images[number], headers=headers, timeout=120)
        if response.status_code != 200:
            return f"{response.status_code}: {response.text[:200]}"
        label: str = response.json()["predictions"][0]["label"]
        return label


@contextlib.contextmanager
def _proxy(first: int, second: int) -> Iterator[str]:
    """HAProxy in front of two ports; yields the URL of the route."""
    port = free_port()
    addresses = {"BIND": f"127.0.0.1:{port}"} | {
        name: f"127.0.0.1:{each}" for name, each in (("FIRST", first), ("SECOND", second))
    }
    command = ["haproxy", "-f", str(CONFIG), "-db"]
    process = subprocess.Popen(command, env=os.environ | addresses, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}/predict"
    finally:
        process.terminate()
        process.wait()


def _start(stack: contextlib.ExitStack, port: int) -> None:
    stack.enter_context(serving(resnet20(), "auto", port=port, drain_delay_s=DRAIN_DELAY_S))


def _until_serving(url: str) -> None:
    while requests.get(url.replace("/predict", "/readyz"), timeout=60).status_code != 200:
        time.sleep(0.1)


if __name__ == "__main__":
    typer.run(main)
