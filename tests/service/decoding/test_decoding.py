"""Decoder processes: their deadline, their memory, their death."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest
from PIL import Image

from tests.service.api.test_problems import assert_problem
from tests.service.conftest import Server, serving
from tests.service.images import coloured, encode


def decoders(server: Server) -> list[int]:
    found = []
    for process in server.tree():
        with suppress(psutil.NoSuchProcess):  # a zombie is one too: it ended while we looked
            if "service.decoding" in " ".join(process.cmdline()):
                found.append(process.pid)
    return found


def test_a_decoder_that_takes_too_long_is_killed(torch_bundle_root: Path) -> None:
    slow = encode(Image.effect_noise((3000, 3000), 90).convert("RGB"), "PNG", compress_level=1)
    with serving(
        models_dir=torch_bundle_root, decode_timeout_s=0.05, max_image_bytes=60_000_000
    ) as server:
        assert_problem(server.predict(slow), 422, "decode_timeout")
        time.sleep(1)
        busy = [process.cpu_percent(0.3) for process in server.tree()[1:]]
        assert sum(busy) < 50, "its processor time is given back"
        # A fresh decoder is in its place; a warm one answers within the deadline again.
        server.wait(
            lambda: server.predict(coloured(size=(8, 8))).status_code == 200, "answering again", 60
        )


def test_an_image_that_needs_more_memory_than_a_decoder_has_is_refused(
    torch_bundle_root: Path,
) -> None:
    large = encode(Image.new("RGBA", (7000, 7000), (9, 9, 9, 128)), "PNG")
    with serving(models_dir=torch_bundle_root, decode_memory_mb=256, decode_timeout_s=60) as server:
        assert_problem(server.predict(large), 422, "unreadable_image")
        assert server.predict(coloured()).status_code == 200


def test_decoders_that_are_killed_are_replaced_and_no_request_notices(server: Server) -> None:
    for whole in (False, True):
        server.predict(coloured())
        before = decoders(server)
        killed = before if whole else before[:1]

        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        answers = [server.predict(coloured()) for _ in range(20)]

        assert [answer.status_code for answer in answers] == [200] * 20, answers[0].text
        server.wait(
            lambda before=before: len(decoders(server)) == len(before), "complete again", 30
        )
        assert not set(killed) & set(decoders(server))


def test_decoders_that_are_killed_are_replaced_without_an_image_that_needs_them(
    server: Server,
) -> None:
    server.predict(coloured())
    before = decoders(server)
    for pid in before:
        os.kill(pid, signal.SIGKILL)

    def complete() -> bool:
        now = decoders(server)
        return len(now) == len(before) and not set(now) & set(before)

    server.wait(complete, "complete again", 30)
    assert not [process for process in server.tree() if process.status() == psutil.STATUS_ZOMBIE]


def test_images_that_a_decoder_had_when_it_was_killed_are_decoded_by_another(
    server: Server,
) -> None:
    server.predict(coloured())
    killed = decoders(server)
    for pid in killed:
        os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(server.predict, coloured()) for _ in range(8)]
        time.sleep(0.5)  # each decoder has one that it decodes and one behind it, the others wait
        for pid in killed:
            os.kill(pid, signal.SIGKILL)

    assert [answer.result().status_code for answer in answers] == [200] * 8
    assert not set(killed) & set(decoders(server))


def test_an_image_behind_one_that_takes_too_long_is_not_to_blame(torch_bundle_root: Path) -> None:
    slow = encode(Image.effect_noise((3000, 3000), 90).convert("RGB"), "PNG", compress_level=1)
    with (
        serving(
            models_dir=torch_bundle_root,
            decode_timeout_s=0.2,
            decode_workers=1,
            max_image_bytes=60_000_000,
        ) as server,
        ThreadPoolExecutor(2) as pool,
    ):
        for _ in range(3):  # in one of them both are in the pipe when the time is up
            first, second = (
                pool.submit(server.predict, image) for image in (slow, coloured(size=(8, 8)))
            )
            assert_problem(first.result(), 422, "decode_timeout")
            assert second.result().status_code == 200


def test_a_client_that_leaves_does_not_cost_a_decoder(server: Server) -> None:
    server.predict(coloured())
    before = decoders(server)
    for pid in before:
        os.kill(pid, signal.SIGSTOP)  # so that no machine is fast enough to answer
    try:
        for _ in range(4):
            with pytest.raises(httpx.TimeoutException):
                httpx.post(f"{server.url}/predict", files={"file": coloured()}, timeout=0.2)
    finally:
        for pid in before:
            os.kill(pid, signal.SIGCONT)

    assert server.predict(coloured()).status_code == 200
    assert decoders(server) == before
