"""Signals, drain and shutdown of a service with real processes."""

from __future__ import annotations

import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.service.api.test_problems import assert_problem
from tests.service.conftest import assert_ended, serving
from tests.service.images import coloured
from tests.service.models.disturb import paused


def test_shutdown_waits_for_requests_in_flight(quick_root: Path) -> None:
    with serving(models_dir=quick_root) as server, ThreadPoolExecutor(1) as pool:
        with paused(server):
            answer = pool.submit(server.predict, coloured())
            server.wait_in_flight(1)
            server.process.send_signal(signal.SIGTERM)
            server.wait_closed()

        assert answer.result().status_code == 200
        assert server.process.wait(60) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_loses_no_request_and_starts_no_other_process(
    quick_root: Path, number: signal.Signals
) -> None:
    with (
        serving(models_dir=quick_root, drain_delay_s=600) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        # Its decoders are running.
        server.predict(coloured())
        before = server.tree()
        with paused(server):
            in_flight = pool.submit(server.predict, coloured())
            server.wait_in_flight(2)
            os.killpg(server.process.pid, number)
            server.wait_logged("draining")
        later = server.predict(coloured(), top_k=1).status_code
        after = server.tree()

        assert (in_flight.result().status_code, later) == (200, 200)
        assert after == before
        # Ends the delay.
        server.process.send_signal(number)
        assert server.process.wait(60) == 0
        assert_ended(before)
        assert "starting another" not in server.log()


def test_a_signal_to_the_whole_group_while_models_load_is_no_death_of_their_processes(
    both_root: Path,
) -> None:
    with serving(models_dir=both_root, ready=False, drain_delay_s=600) as server:
        server.wait(lambda: len(server.worker_pids()) == 2, "loading", 60)
        before = server.worker_pids()
        os.killpg(server.process.pid, signal.SIGTERM)
        for name in ("tiny-torch", "tiny-keras"):
            server.wait_logged(f"model {name}/1 is ready")

        assert server.worker_pids() == before
        # Ends the delay.
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        assert "WARNING" not in server.log()


def test_shutdown_while_models_load_leaves_no_process(both_root: Path) -> None:
    with serving(models_dir=both_root, ready=False) as server:
        server.wait(lambda: len(server.worker_pids()) == 2, "loading", 60)

        assert server.stop() == 0


def test_shutdown_finishes_what_it_has_and_leaves_no_process(quick_root: Path) -> None:
    with serving(models_dir=quick_root, drain_delay_s=600) as server:
        server.process.send_signal(signal.SIGTERM)
        server.wait(lambda: server.client.get("/readyz").status_code == 503, "draining", 60)
        assert_problem(server.client.get("/readyz"), 503, "draining")
        still_served = server.predict(coloured()).status_code
        processes = server.tree()
        # Ends the delay.
        server.process.send_signal(signal.SIGTERM)
        code = server.process.wait(60)

    assert still_served == 200
    assert code == 0
    assert_ended(processes)


def test_the_drain_delay_ends_by_itself(tmp_path: Path) -> None:
    with serving(models_dir=tmp_path, ready=False, drain_delay_s=0.1) as server:
        server.wait(lambda: server.client.get("/healthz").status_code == 200, "alive")
        server.process.send_signal(signal.SIGTERM)

        assert server.process.wait(60) == 0
        assert "draining" in server.log()


def test_a_second_signal_ends_the_delay_and_no_request(quick_root: Path) -> None:
    with (
        serving(models_dir=quick_root, drain_delay_s=600) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        with paused(server):
            in_flight = pool.submit(server.predict, coloured())
            server.wait_in_flight(1)
            server.process.send_signal(signal.SIGINT)
            server.wait_logged("draining")
            server.process.send_signal(signal.SIGINT)
            server.wait_closed()

        assert in_flight.result().status_code == 200
        assert server.process.wait(60) == 0


@pytest.mark.parametrize(
    ("drain_timeout_s", "numbers"),
    [(1, [signal.SIGTERM]), (600, [signal.SIGINT, signal.SIGINT])],
    ids=["timeout", "second signal"],
)
def test_requests_that_are_dropped_at_the_end_are_told_so(
    quick_root: Path, drain_timeout_s: int, numbers: list[signal.Signals]
) -> None:
    with (
        serving(models_dir=quick_root, drain_timeout_s=drain_timeout_s) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        processes = server.tree()
        with paused(server), socket.create_connection(("127.0.0.1", server.port)) as reads_nothing:
            large = b"GET /static-offline-docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: x\r\n\r\n"
            reads_nothing.sendall(large * 20)
            in_flight = pool.submit(server.predict, coloured())
            server.wait_in_flight(1)
            server.process.send_signal(numbers[0])
            for number in numbers[1:]:
                server.wait_closed()
                server.process.send_signal(number)
            assert_problem(in_flight.result(), 503, "draining")
            assert server.process.wait(60) == 0
        assert_ended(processes)
        assert "Traceback" not in server.log()
        assert "POST /predict 503" in server.log()


def test_a_killed_service_leaves_no_process(quick_root: Path) -> None:
    with serving(models_dir=quick_root) as server:
        processes = server.tree()[1:]
        server.process.kill()
        server.process.wait()

        assert_ended(processes)
