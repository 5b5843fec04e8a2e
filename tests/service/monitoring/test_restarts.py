"""Processes that are replaced: one line in the log for each, and a count with the reason."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path

import pytest

from bundle.errors import WorkerDied
from bundle.worker.wire import WireClosed
from tests.service.conftest import serving
from tests.service.decoding import fakes as decoders
from tests.service.images import coloured
from tests.service.models import fakes as models
from tests.service.tasks import settle, until


def test_the_end_of_a_real_process_is_one_line_and_one_restart(quick_root: Path) -> None:
    with serving(models_dir=quick_root, runtime_threads=1) as server:
        (pid,) = server.worker_pids().values()
        os.kill(pid, signal.SIGSEGV)
        server.wait(lambda: [*server.worker_pids().values()] not in ([], [pid]), "restarted")
        server.wait_ready()
        assert server.predict(coloured()).status_code == 200
        metrics = server.client.get("/metrics").text
        log = server.log()

    counts = re.findall(
        r'^resnet_worker_restarts_total\{.*reason="(\w+)".*\} (\S+)$', metrics, re.M
    )
    assert {reason: float(count) for reason, count in counts if float(count)} == {"crashed": 1}
    assert {"killed", "out_of_memory", "timeout", "not_started"} < {reason for reason, _ in counts}
    assert re.findall(r'^resnet_decoder_restarts_total\{reason="(\w+)"\} 0.0$', metrics, re.M)
    (line,) = [line for line in log.splitlines() if " WARNING " in line]
    assert "model tiny-torch/1: its process has ended (crashed); starting another." in line
    assert "signal SIGSEGV" in line


@pytest.mark.anyio
async def test_a_process_that_ends_with_several_batches_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    machine = models.Machine(2, tmp_path)
    async with models.running(machine) as (model, _):
        machine.processes[0].may_end.clear()
        requests = []
        for _ in range(3):
            requests += await models.send(model, models.IMAGE)
        machine.processes[0].kill_now()
        assert await asyncio.gather(*requests) == [models.SUCCESS] * 3

        assert model.restarts == {"killed": 1}
        assert [record.levelname for record in caplog.records].count("WARNING") == 1
        assert "its process has ended (killed); starting another. ended" in caplog.text


@pytest.mark.anyio
async def test_starts_that_fail_are_counted_too(tmp_path: Path) -> None:
    machine = models.Machine(1, tmp_path)
    machine.start_errors = {number: WorkerDied("no memory") for number in (2, 3)}
    async with models.running(machine) as (model, _):
        machine.processes[0].kill_now()
        await until(lambda: machine.running == [False, False, False, True])

        assert model.restarts == {"killed": 1, "not_started": 2}


@pytest.mark.anyio
async def test_decoders_are_counted_when_they_are_replaced(
    caplog: pytest.LogCaptureFixture,
) -> None:
    machine = decoders.Machine()
    machine.response = decoders.RESPONSE
    async with decoders.started(machine) as pool:
        machine.processes[0].end()
        await until(lambda: machine.running == [False, True])
        assert pool.restarts == {"killed": 1}
        assert caplog.text.count("a decoder has ended (killed)") == 1

        machine.failures = [WireClosed("no memory")] * 2
        machine.processes[1].end()
        await until(lambda: len(machine.processes) == 4)
        await settle()
        assert pool.restarts == {"killed": 1, "not_started": 1}
        machine.delay_over.set()
        await until(lambda: machine.running[-1])
        assert pool.restarts == {"killed": 2, "not_started": 1}
