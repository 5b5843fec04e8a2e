"""`make` as a user runs it: the verbs, and `make serve` on free ports with tiny bundles."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.scripts.launcher import (
    MAKE,
    START_S,
    STOP_S,
    Launcher,
    accepts_connections,
    clean_environment,
    free_ports,
)
from tests.service.network.pairs import AUTHORITY, pair
from tests.sources import ROOT

READY = "Ctrl-C stops both"


@pytest.fixture
def ports() -> tuple[int, int]:
    return free_ports()


@pytest.fixture
def launch(tmp_path: Path, ports: tuple[int, int]) -> Iterator[Callable[..., Launcher]]:
    """Starts `make serve` with a repository and further environment variables."""
    running = []

    def start(models: Path, **environment: str) -> Launcher:
        launcher = Launcher(
            tmp_path / "serve.log",
            SERVICE_MODELS_DIR=str(models),
            SERVICE_LOAD_TIMEOUT_S="250",
            SERVICE_PORT=str(ports[0]),
            FRONTEND_PORT=str(ports[1]),
            **environment,
        )
        running.append(launcher)
        return launcher

    yield start
    for launcher in running:
        launcher.kill()
        launcher.process.wait()


@pytest.fixture
def launcher(launch: Callable[..., Launcher], torch_bundle_root: Path) -> Launcher:
    """`make serve` with one small PyTorch model."""
    return launch(torch_bundle_root)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MAKE, *arguments],
        cwd=ROOT,
        env={**clean_environment(), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=START_S,
    )


def test_make_lists_at_most_eleven_verbs_each_with_its_meaning() -> None:
    listed = run().stdout.splitlines()

    verbs = [line.split()[1] for line in listed]
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    assert sorted(verbs) == sorted(phony[1].split())
    assert len(verbs) <= 11
    assert all(len(line.split()) > 4 for line in listed)


def test_serve_prints_both_urls_and_a_request_that_works_and_ctrl_c_stops_all(
    launch: Callable[..., Launcher], both_root: Path, ports: tuple[int, int]
) -> None:
    launcher = launch(both_root)
    launcher.wait_for(READY)

    shown = launcher.output()
    assert f"http://127.0.0.1:{ports[0]}" in shown
    assert f"http://127.0.0.1:{ports[1]}" in shown
    assert "tiny-torch version 1" in shown
    assert "tiny-keras version 1" in shown
    with urllib.request.urlopen(f"http://127.0.0.1:{ports[1]}") as page:
        assert b"<title>" in page.read()
    command = re.search(r"^ *(curl .*)$", shown, re.MULTILINE)
    assert command is not None
    curl = subprocess.run(["sh", "-c", command[1]], cwd=ROOT, capture_output=True, text=True)
    assert '"predictions"' in curl.stdout, curl

    launcher.terminal_sends(signal.SIGINT)

    launcher.assert_gone()
    assert not accepts_connections(ports[0])
    assert not accepts_connections(ports[1])
    assert "Traceback" not in launcher.output()


def test_serve_over_https_and_with_keys_prints_a_request_that_works(
    launch: Callable[..., Launcher],
    torch_bundle_root: Path,
    ports: tuple[int, int],
    tmp_path: Path,
) -> None:
    files, authority = pair(tmp_path), tmp_path / "ca.crt"
    files.write()
    AUTHORITY.cert_pem.write_to_path(authority)
    launcher = launch(
        torch_bundle_root,
        SERVICE_TLS_CERTIFICATE=str(files.certificate),
        SERVICE_TLS_KEY=str(files.key),
        SERVICE_API_KEYS=f"shop:{hashlib.sha256(b'secret').hexdigest()}",
        FRONTEND_API_KEY="secret",
        REQUESTS_CA_BUNDLE=str(authority),
        SERVICE_URL=f"https://localhost:{ports[0]}",
    )
    launcher.wait_for(READY)

    command = re.search(r"^ *(curl .*)$", launcher.output(), re.MULTILINE)
    assert command is not None
    assert "https://localhost" in command[1]
    curl = subprocess.run(
        ["sh", "-c", command[1]],
        cwd=ROOT,
        env={**clean_environment(), "KEY": "secret"},
        capture_output=True,
        text=True,
    )
    assert '"predictions"' in curl.stdout, curl


def test_sigterm_to_make_alone_stops_all(launcher: Launcher) -> None:
    launcher.wait_for(READY)

    launcher.process.terminate()

    launcher.assert_gone()
    assert "Traceback" not in launcher.output()


def test_ctrl_c_before_both_are_ready_stops_all(
    launch: Callable[..., Launcher], torch_bundle_root: Path
) -> None:
    # Elsewhere than expected, the page is never found to be ready.
    launcher = launch(torch_bundle_root, STREAMLIT_SERVER_BASE_URL_PATH="elsewhere")
    launcher.wait_for("waiting for")

    launcher.terminal_sends(signal.SIGINT)

    launcher.assert_gone()
    assert READY not in launcher.output()


@pytest.mark.parametrize(("name", "part"), [("frontend", "streamlit"), ("service", "-m service")])
def test_when_one_of_the_two_dies_the_other_is_stopped_and_the_exit_code_is_not_0(
    launcher: Launcher, name: str, part: str
) -> None:
    launcher.wait_for(READY)

    launcher.kill(part)

    assert launcher.process.wait(STOP_S) != 0
    launcher.assert_gone()
    assert f"the {name} was killed by SIGKILL. Its last lines:" in launcher.output()


def test_nothing_outlives_a_launcher_that_is_killed(launcher: Launcher) -> None:
    launcher.wait_for(READY)

    os.kill(launcher.pids("scripts/serve.py")[-1], signal.SIGKILL)

    launcher.assert_gone()


def test_a_taken_port_is_named_with_its_process_and_an_alternative(ports: tuple[int, int]) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]

        result = run("serve", SERVICE_PORT=str(ports[0]), FRONTEND_PORT=str(taken))

    assert result.returncode != 0
    assert f"port {taken} is taken by" in result.stdout
    assert f"(process {os.getpid()})" in result.stdout
    assert "Choose another: FRONTEND_PORT=" in result.stdout
    assert "service  |" not in result.stdout


def test_both_taken_ports_are_named_at_once() -> None:
    with socket.socket() as one, socket.socket() as two:
        for holder in (one, two):
            holder.bind(("127.0.0.1", 0))
            holder.listen()
        first, second = one.getsockname()[1], two.getsockname()[1]

        result = run("serve", SERVICE_PORT=str(first), FRONTEND_PORT=str(second))

    assert f"port {first} is taken" in result.stdout
    assert f"port {second} is taken" in result.stdout


@pytest.mark.parametrize("value", ["web", "0", "65536", "-1"])
def test_an_invalid_port_is_refused_by_name(value: str) -> None:
    result = run("serve", FRONTEND_PORT=value)

    assert result.returncode != 0
    assert f"FRONTEND_PORT has to be a port, 1 to 65535. Received: '{value}'" in result.stdout


def test_an_address_of_another_machine_is_refused_by_name() -> None:
    result = run("serve", BIND_HOST="192.0.2.1")

    assert result.returncode != 0
    assert "can't listen on 192.0.2.1" in result.stdout
    assert "BIND_HOST" in result.stdout


def test_a_wrong_setting_of_the_service_is_shown_and_stops_the_page(
    ports: tuple[int, int], torch_bundle_root: Path
) -> None:
    result = run(
        "serve",
        SERVICE_PORT=str(ports[0]),
        FRONTEND_PORT=str(ports[1]),
        SERVICE_MODELS_DIR=str(torch_bundle_root),
        SERVICE_MAX_BATCH="many",
    )

    assert result.returncode != 0
    assert "the service ended with exit code" in result.stdout
    assert "SERVICE_MAX_BATCH" in result.stdout
