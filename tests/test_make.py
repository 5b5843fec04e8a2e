"""`make` as a person uses it: the verbs, and `make serve` run for real on free ports, with tiny bundles."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
READY = "Ctrl-C stops both"
START_S = 270.0  # seconds; on a busy machine importing two frameworks takes minutes
STOP_S = 40.0

# -o: the environment that runs this test is the one to use; a test installs nothing.
MAKE = ["make", "-o", ".venv/.complete", f"BIN={Path(sys.executable).parent}"]


class Launcher:
    """A running `make serve` in a session of its own, as a terminal would start it."""

    def __init__(self, log: Path, **environment: str) -> None:
        self.log = log
        self.mark = f"TEST_MARK={uuid.uuid4()}"
        name, value = self.mark.split("=")
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [*MAKE, "serve"],
                cwd=ROOT,
                env={**clean_environment(), **environment, name: value},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, text: str, seconds: float = START_S) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.output():
            assert self.process.poll() is None, f"it ended early:\n{self.output()}"
            assert time.monotonic() < deadline, f"no {text!r} within {seconds} s:\n{self.output()}"
            time.sleep(0.1)

    def pids(self, part: str = "") -> list[int]:
        """Everything it started, directly or not, whose command line contains `part`."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                marked = self.mark.encode() in (process / "environ").read_bytes()
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                if marked and part.encode() in command:
                    found.append(int(process.name))
        return found

    def terminal_sends(self, number: signal.Signals) -> None:
        """As a terminal does on Ctrl-C: the signal goes to the whole foreground process group."""
        os.killpg(self.process.pid, number)

    def is_gone(self) -> None:
        """Nothing that it started is left, after a moment for processes that die with their parents."""
        deadline = time.monotonic() + 10
        while self.pids() and time.monotonic() < deadline:
            time.sleep(0.1)
        left = [
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ") for pid in self.pids()
        ]
        assert left == []


def clean_environment() -> dict[str, str]:
    dropped = ("MAKE", "MFLAGS", "SERVICE_", "FRONTEND_", "STREAMLIT_", "BIND_HOST")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)}


def free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


def answers(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(2)
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def ports() -> tuple[int, int]:
    return free_ports()


@pytest.fixture
def launcher(
    request: pytest.FixtureRequest, tmp_path: Path, ports: tuple[int, int]
) -> Iterator[Launcher]:
    """Serves the repository whose fixture the test is parametrised with; by default one small PyTorch model."""
    models = request.getfixturevalue(getattr(request, "param", "torch_bundle_root"))
    running = Launcher(
        tmp_path / "serve.log",
        SERVICE_MODELS_DIR=str(models),
        SERVICE_LOAD_TIMEOUT_S="250",
        SERVICE_PORT=str(ports[0]),
        FRONTEND_PORT=str(ports[1]),
    )
    yield running
    for pid in running.pids():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    running.process.wait()


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MAKE, *arguments],
        cwd=ROOT,
        env={**clean_environment(), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_make_lists_at_most_ten_verbs_each_with_its_meaning() -> None:
    listed = run().stdout.splitlines()

    verbs = [line.split()[1] for line in listed]
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    assert sorted(verbs) == sorted(phony[1].split())
    assert len(verbs) <= 10
    assert all(len(line.split()) > 4 for line in listed)


@pytest.mark.parametrize("launcher", ["both_root"], indirect=True)
def test_serve_prints_both_addresses_and_a_request_that_works_and_ctrl_c_stops_all(
    launcher: Launcher, ports: tuple[int, int]
) -> None:
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
    answer = subprocess.run(["sh", "-c", command[1]], cwd=ROOT, capture_output=True, text=True)
    assert '"predictions"' in answer.stdout, answer

    launcher.terminal_sends(signal.SIGINT)

    launcher.process.wait(STOP_S)
    launcher.is_gone()
    assert not answers(ports[0])
    assert not answers(ports[1])
    assert "Traceback" not in launcher.output()


def test_sigterm_to_make_alone_stops_all(launcher: Launcher) -> None:
    launcher.wait_for(READY)

    launcher.process.terminate()

    launcher.process.wait(STOP_S)
    launcher.is_gone()
    assert "Traceback" not in launcher.output()


def test_ctrl_c_while_the_models_load_stops_all(launcher: Launcher) -> None:
    launcher.wait_for("waiting for")

    launcher.terminal_sends(signal.SIGINT)

    launcher.process.wait(STOP_S)
    launcher.is_gone()
    assert READY not in launcher.output()


@pytest.mark.parametrize(("name", "part"), [("frontend", "streamlit"), ("service", "-m service")])
def test_when_one_of_the_two_dies_the_other_is_stopped_and_the_exit_code_tells(
    launcher: Launcher, name: str, part: str
) -> None:
    launcher.wait_for(READY)

    for pid in launcher.pids(part):
        os.kill(pid, signal.SIGKILL)

    assert launcher.process.wait(STOP_S) != 0
    launcher.is_gone()
    assert f"the {name} was killed by SIGKILL. Its last lines:" in launcher.output()


def test_nothing_outlives_a_launcher_that_is_killed(launcher: Launcher) -> None:
    launcher.wait_for(READY)

    os.kill(launcher.pids("scripts/serve.py")[-1], signal.SIGKILL)

    launcher.process.wait(STOP_S)
    deadline = time.monotonic() + STOP_S
    while launcher.pids() and time.monotonic() < deadline:
        time.sleep(0.2)
    launcher.is_gone()


def test_a_taken_port_is_named_with_its_holder_and_the_way_out(ports: tuple[int, int]) -> None:
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
def test_a_port_that_is_none_is_refused_by_name(value: str) -> None:
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


def test_the_environment_refuses_a_python_that_is_too_old_or_too_new() -> None:
    for version in ((3, 10, 4), (3, 14, 0)):
        program = (
            f"import runpy, sys; sys.version_info = {version!r}; sys.argv = ['environment.py'];"
            "runpy.run_path('scripts/environment.py', run_name='__main__')"
        )
        result = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True
        )

        assert result.returncode == 1
        assert "this project needs Python 3.11 to 3.13" in result.stderr
        assert ".".join(map(str, version)) in result.stderr


def test_the_lock_pins_every_package_and_names_no_index() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()

    pins = [line for line in lines if line and not line.lstrip().startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9._-]*==[^ ]+", pin) for pin in pins)
    assert not [line for line in lines if "://" in line]
