"""What the locks and the eyes of the service cost: `python -m benchmarks.overhead`.

Two services with the same model, one as it is by default without its sandbox, one with API keys,
limits, a fair queue, JSON logs, traces, the admin port and the sandbox. They alternate under the
same load, so that other load on the machine affects both; the ratio is the median of those of the
rounds. TLS is not in it: what it costs depends on the connections.
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.models import Model, resnet20, resnet50
from benchmarks.ours import serving
from benchmarks.overhead.rate import KEY, rate
from benchmarks.peers.running import free_port

CONNECTIONS = (1, 8, 32)

console = Console()


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each service.")] = 7,
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of a turn.")] = 3.0,
    traces: Annotated[bool, typer.Option(help="Trace every request.")] = True,
    small: Annotated[bool, typer.Option("--small", help="ResNet-20 alone.")] = False,
) -> None:
    """Measure requests/s with everything off and on, and print them with their ratio."""
    table = Table("requests/s", "connections", "off", "on", "on / off")
    with _collector() as endpoint:
        traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint} if traces else {}
        for model in (resnet20(),) if small else (resnet20(), resnet50()):
            for connections, found in _compare(model, traced, rounds, seconds).items():
                off, on = zip(*found, strict=True)
                ratio = statistics.median(after / before for before, after in found)
                cells = (f"{statistics.median(each):.1f}" for each in (off, on))
                table.add_row(model.title, str(connections), *cells, f"{ratio:.3f}")
    console.print(table)


def _compare(
    model: Model, traced: dict[str, str], rounds: int, seconds: float
) -> dict[int, list[tuple[float, float]]]:
    """By number of connections: requests/s off and on, of each round."""
    found: dict[int, list[tuple[float, float]]] = {each: [] for each in CONNECTIONS}
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    settings: dict[str, Any] = {
        "api_keys": f"benchmark:{digest}",
        "log_format": "json",
        "admin_port": str(free_port()),
    }
    with ExitStack() as stack:
        services = (
            stack.enter_context(serving(model, "auto", sandbox="off")),
            stack.enter_context(serving(model, "auto", environment=traced, key=KEY, **settings)),
        )
        for number in track(range(rounds), model.title, console=console, transient=True):
            for connections in CONNECTIONS:
                turn = services if number % 2 else services[::-1]
                rates = [rate(each.url, model, connections, seconds) for each in turn]
                off, on = rates if number % 2 else rates[::-1]
                found[connections].append((off, on))
    return found


@contextmanager
def _collector() -> Iterator[str]:
    """A receiver of traces that keeps none; yields its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Receiver)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class _Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Accept traces."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    typer.run(main)
