"""Decoder processes: their deadline, their memory, their death."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from PIL import Image

from bundle.format.manifest import Input
from service.decoding.pool import Decoder
from service.errors import DecodeTimeout
from service.settings import Settings
from tests.bundle.worker.processes import pause
from tests.bundles import input_record
from tests.service.api.test_problems import assert_problem
from tests.service.conftest import Server, serving
from tests.service.images import coloured, encode, scans_jpeg
from tests.service.models.disturb import ask_and_stay

# Decoders have it, however small it is.
GIF = coloured(kind="GIF")


def decoders(service_pid: int) -> list[int]:
    found = []
    for process in psutil.Process(service_pid).children(recursive=True):
        # A zombie has no command line: it has ended since.
        with suppress(psutil.NoSuchProcess):
            if "service.decoding" in " ".join(process.cmdline()):
                found.append(process.pid)
    return found


def busy_decoders(server: Server) -> list[int]:
    """The decoders after several images at once, which need more than one."""
    with ThreadPoolExecutor(8) as pool:
        assert {found.status_code for found in pool.map(server.predict, [GIF] * 16)} == {200}
    return decoders(server.process.pid)


@contextmanager
def paused(pids: list[int]) -> Iterator[None]:
    """Decoders that hang."""
    for pid in pids:
        pause(pid)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def wait_replaced(server: Server, ended: list[int], count: int) -> None:
    def replaced() -> bool:
        now = decoders(server.process.pid)
        # More than before if images waited.
        return len(now) >= count and not set(ended) & set(now)

    server.wait(replaced, "complete again", 60)


def test_a_decoder_that_takes_too_long_is_killed_and_replaced(quick_root: Path) -> None:
    # A minute's work and more on any machine.
    slow = scans_jpeg()
    with serving(
        models_dir=quick_root, decode_timeout_s=2, decode_workers=1, max_jpeg_scans=20_000
    ) as server:
        server.predict(GIF)
        before = decoders(server.process.pid)
        assert_problem(server.predict(slow), 422, "decode_timeout")

        wait_replaced(server, before, 1)
        assert server.predict(GIF).status_code == 200


@pytest.mark.anyio
async def test_an_image_behind_one_that_takes_too_long_is_not_to_blame() -> None:
    pool = Decoder(Settings(decode_workers=1, decode_timeout_s=3))
    pool.start()
    try:
        geometry = Input.model_validate(input_record(2))
        await pool.decode(coloured(), geometry)
        with paused(decoders(os.getpid())):
            first, second = (
                asyncio.create_task(pool.decode(coloured(), geometry)) for _ in range(2)
            )
            with pytest.raises(DecodeTimeout):
                await first
        assert (await second).pixels.shape == (2, 2, 3)
    finally:
        await pool.stop()


def test_an_image_that_needs_more_memory_than_a_decoder_has_is_refused(
    quick_root: Path,
) -> None:
    large = encode(Image.new("RGBA", (7000, 7000), (9, 9, 9, 128)), "PNG")
    with serving(models_dir=quick_root, decode_memory_mb=256, decode_timeout_s=60) as server:
        assert_problem(server.predict(large), 422, "unreadable_image")
        assert server.predict(GIF).status_code == 200


@pytest.mark.parametrize("share", ["one", "all"])
def test_decoders_that_are_killed_are_replaced_and_no_request_notices(
    server: Server, share: str
) -> None:
    before = busy_decoders(server)
    killed = before if share == "all" else before[:1]

    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    responses = [server.predict(GIF) for _ in range(20)]

    assert [response.status_code for response in responses] == [200] * 20, responses[0].text
    wait_replaced(server, killed, len(before))


def test_decoders_that_are_killed_are_replaced_without_an_image_that_needs_them(
    server: Server,
) -> None:
    before = busy_decoders(server)
    for pid in before:
        os.kill(pid, signal.SIGKILL)

    wait_replaced(server, before, len(before))
    assert not [process for process in server.tree() if process.status() == psutil.STATUS_ZOMBIE]


def test_images_that_a_decoder_had_when_it_was_killed_are_decoded_by_another(
    server: Server,
) -> None:
    killed = busy_decoders(server)
    with paused(killed), ThreadPoolExecutor(8) as pool:
        responses = [pool.submit(server.predict, GIF) for _ in range(8)]
        server.wait_queued(8)
        for pid in killed:
            os.kill(pid, signal.SIGKILL)

    assert [response.result().status_code for response in responses] == [200] * 8
    wait_replaced(server, killed, len(killed))


def test_clients_that_leave_do_not_cost_a_decoder(server: Server) -> None:
    before = busy_decoders(server)
    with paused(before):
        leaving = [ask_and_stay(server, GIF) for _ in range(4)]
        server.wait_queued(4)
        for connection in leaving:
            connection.close()
        server.wait_queued(0)

    assert server.predict(GIF).status_code == 200
    assert decoders(server.process.pid) == before
