"""`make serve`: start the service and the page, follow their logs, stop both together.

    BIND_HOST=127.0.0.1   address that both listen on; 0.0.0.0 opens them to the network
    SERVICE_PORT=8000     port of the service
    FRONTEND_PORT=8501    port of the page
    START_TIMEOUT_S=300   seconds until both must be ready
    SERVICE_URL           with HTTPS: how the page reaches the service by the name of its
                          certificate, https://NAME:8000; its address otherwise

The service's own settings (SERVICE_MODELS_DIR, ...) are passed on. The exit code is 0 after Ctrl-C
or SIGTERM, and 1 if one of the two could not start or exited; the other one is stopped first.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from pathlib import Path

import ports
from children import Child
from rich.console import Console
from rich.markup import escape
from waiting import NotYet, get, service_state

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = "frontend/samples/coffee.jpg"
STOP_TIMEOUT_S = 25.0  # the service drains for up to 20 s
POLL_S = 0.5

out = Console(highlight=False, soft_wrap=True)


class CannotStart(Exception):
    """A reason not to start, or to stop at once; the text is for the terminal."""


class Stop:
    """Counts the requests to stop (Ctrl-C, SIGTERM, a closed terminal)."""

    def __init__(self) -> None:
        self.requests = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._count)

    def _count(self, *_: object) -> None:
        self.requests += 1

    def __bool__(self) -> bool:
        return self.requests > 0


def main() -> int:
    """Serve until a stop is requested. Returns the exit code."""
    os.chdir(ROOT)
    stop = Stop()
    children: list[Child] = []
    try:
        host = os.environ.get("BIND_HOST") or "127.0.0.1"
        service_port, page_port = port("SERVICE_PORT", 8000), port("FRONTEND_PORT", 8501)
        require_free(host, {"SERVICE_PORT": service_port, "FRONTEND_PORT": page_port})
        encrypted = bool(os.environ.get("SERVICE_TLS_CERTIFICATE"))
        service_url = url(host, service_port, "https" if encrypted else "http")
        page_url = url(host, page_port)
        # A certificate is for a name.
        named_url = (encrypted and os.environ.get("SERVICE_URL")) or service_url
        children += [start_service(host, service_port), start_page(host, page_port, named_url)]
        if wait_until_ready(children, stop, service_url, page_url):
            admin_port = os.environ.get("SERVICE_ADMIN_PORT")
            admin_url = named_url.rpartition(":")[0] + f":{admin_port}" if admin_port else named_url
            welcome(named_url, page_url, admin_url)
            while not stop:
                require_alive(children)
                time.sleep(POLL_S)
    except CannotStart as exc:
        out.print(f"[bold red]make serve:[/] {escape(str(exc))}")
        return 1
    finally:
        stop_all(children, stop)
    return 0


def port(name: str, default: int) -> int:
    """The port in the environment variable `name`, or the default."""
    text = os.environ.get(name) or str(default)
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise CannotStart(f"{name} has to be a port, 1 to 65535. Received: {text!r}")
    return int(text)


def require_free(host: str, wanted: dict[str, int]) -> None:
    """Refuse to start if a port is taken; one message names all of them with their processes."""
    reasons = []
    for name, number in wanted.items():
        try:
            if ports.is_taken(host, number):
                holder = ports.holder(number) or "a process that is not visible from here"
                reasons.append(
                    f"port {number} is taken by {holder}. "
                    f"Choose another: {name}={number + 10} make serve"
                )
        except OSError as exc:
            reasons.append(
                f"can't listen on {host} port {number} ({exc.strerror}); see BIND_HOST and {name}"
            )
    if len(set(wanted.values())) < len(wanted):
        received = ", ".join(map(str, wanted.values()))
        reasons.append(f"{' and '.join(wanted)} have to differ. Received: {received}")
    if reasons:
        raise CannotStart("\n            ".join(reasons))


def url(host: str, number: int, scheme: str = "http") -> str:
    """The URL that a browser on this machine uses for a server that listens on `host`."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - not bound to
    return f"{scheme}://[{host}]:{number}" if ":" in host else f"{scheme}://{host}:{number}"


def start_service(host: str, number: int) -> Child:
    """The HTTP service as a child process."""
    return Child(
        "service",
        [sys.executable, "-m", "service"],
        {"SERVICE_HOST": host, "SERVICE_PORT": str(number)},
        out,
    )


def start_page(host: str, number: int, service_url: str) -> Child:
    """The Streamlit page as a child process that knows the service by its URL."""
    options = [f"--server.address={host}", f"--server.port={number}", "--server.headless=true"]
    command = [sys.executable, "-m", "streamlit", "run", "frontend/app.py", *options]
    # On SIGTERM Streamlit prints a line, fails if nothing reads its output any more, and stays.
    return Child(
        "frontend", command, {"SERVICE_URL": service_url}, out, when_orphaned=signal.SIGKILL
    )


def wait_until_ready(children: list[Child], stop: Stop, service_url: str, page_url: str) -> bool:
    """Print what is missing, as it changes. Returns False if stopped before both are ready."""
    timeout = float(os.environ.get("START_TIMEOUT_S") or 300)
    begin, missing = time.monotonic(), ""
    while not stop:
        require_alive(children)
        seconds = time.monotonic() - begin
        try:
            state = service_state(service_url)
            get(f"{page_url}/_stcore/health")
            get(page_url)
        except NotYet as exc:
            if str(exc) != missing:
                missing = str(exc)
                out.print(f"[dim]{seconds:5.1f} s[/]  {escape(missing)}")
            if seconds > timeout:
                raise CannotStart(
                    f"not ready within START_TIMEOUT_S={timeout:g} seconds. Last: {missing}"
                ) from exc
            time.sleep(POLL_S)
            continue
        out.print(f"[dim]{seconds:5.1f} s[/]  {escape(state)}")
        return True
    return False


def require_alive(children: list[Child]) -> None:
    """Raise `CannotStart` if a child has exited: which one, how, and its last lines."""
    for child in children:
        if child.has_exited():
            raise CannotStart(
                f"the {child.name} {child.exit_status()}. Its last lines:\n{child.last_lines()}"
            )


def welcome(service_url: str, page_url: str, admin_url: str) -> None:
    """Print the two URLs and a request to copy; `admin_url` has the documentation."""
    words = ["curl"]
    authorities = os.environ.get("REQUESTS_CA_BUNDLE")
    if authorities and service_url.startswith("https"):
        words += ["--cacert", authorities]
    command = shlex.join([*words, "-F", f"file=@{SAMPLE}", f"{service_url}/predict"])
    if os.environ.get("SERVICE_API_KEYS_FILE") or os.environ.get("SERVICE_API_KEYS"):
        # The key is stored nowhere.
        command += ' -H "Authorization: Bearer $KEY"'
    out.print(
        f"\n  page     [bold]{page_url}[/]\n"
        f"  service  [bold]{service_url}[/]  ({admin_url}/docs)\n"
        f"\n  {command}\n\n  Ctrl-C stops both.\n"
    )


def stop_all(children: list[Child], stop: Stop) -> None:
    """Stop the children: SIGTERM, then SIGKILL after a timeout or a second Ctrl-C."""
    requests, deadline = stop.requests, time.monotonic() + STOP_TIMEOUT_S
    running = [child for child in reversed(children) if not child.has_exited()]
    if running:
        out.print(f"stopping {' and '.join(child.name for child in running)}")
    for child in running:
        child.signal(signal.SIGTERM)
    while any(not child.has_exited() for child in running):
        if time.monotonic() > deadline or stop.requests > requests:
            break
        time.sleep(0.05)
    for child in children:
        child.finish()


if __name__ == "__main__":
    sys.exit(main())
