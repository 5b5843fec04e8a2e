"""The pool of decoders with processes that only pretend: what is started, and what of their answers is believed."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bundle.errors import ImageTooLarge, UnreadableImage
from bundle.format.manifest import Input
from bundle.imaging.decode import DecodedImage, ImageInfo
from bundle.worker.wire import Answer, WireClosed
from service.decoding import pool as decoder
from service.decoding import worker as decoder_process
from service.decoding.pool import Decoder
from service.errors import DecoderUnavailable
from service.settings import Settings
from tests.service.images import coloured, encode

GEOMETRY = Input.model_construct(height=2, width=2)
PIXELS = np.zeros((2, 2, 3), np.uint8)
SMALL = coloured(size=(8, 8))
# Two of these fit into a pipe.
HALF = [
    (SMALL + bytes([n]) * decoder_process.PREFETCH_COST)[: decoder_process.PREFETCH_COST // 2]
    for n in range(4)
]
IMAGE = {"format": "PNG", "width": 2, "height": 2, "mode": "RGB", "operations": []}


class Pretended:
    """A process that takes long to start, and answers with `answer`, or never."""

    started: int
    failing: int  # starts that fail, from now on
    answer: Answer | None
    asked: list[bytes]  # the images
    pending: list[asyncio.Future[Answer]]

    def __init__(self, *_: Any) -> None:
        self.running = False
        self.mine: list[asyncio.Future[Answer]] = []  # of `pending`

    async def start(self, _: float) -> None:
        Pretended.started += 1
        await asyncio.sleep(0.2)
        if Pretended.failing:
            Pretended.failing -= 1
            raise WireClosed("killed")
        self.running = True

    async def ask(self, _: Any, arrays: list[np.ndarray], __: float) -> Answer:
        Pretended.asked.append(arrays[0].tobytes())
        answer = asyncio.get_running_loop().create_future()
        Pretended.pending.append(answer)
        self.mine.append(answer)
        if Pretended.answer is not None:
            answer.set_result(Pretended.answer)
        return await answer

    async def kill(self) -> None:
        self.running = False
        for answer in self.mine:
            if not answer.done():
                answer.set_exception(WireClosed("killed"))


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(decoder_process, "FramedProcess", Pretended)
    monkeypatch.setattr(decoder_process, "_as_json", lambda _: "{}")
    monkeypatch.setattr(Pretended, "started", 0, raising=False)
    monkeypatch.setattr(Pretended, "failing", 0, raising=False)
    monkeypatch.setattr(Pretended, "answer", None, raising=False)
    monkeypatch.setattr(Pretended, "asked", [], raising=False)
    monkeypatch.setattr(Pretended, "pending", [], raising=False)
    return Settings(decode_workers=1)


async def started(settings: Settings, workers: int = 1) -> Decoder:
    pool = Decoder(settings.model_copy(update={"decode_workers": workers}))
    pool.start()
    while not all(process.running or process.failed for process in pool._processes):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return pool


def answer_all() -> None:
    """Those who wait for an answer, and whoever asks from now on."""
    Pretended.answer = {"image": IMAGE}, [PIXELS]
    for pending in Pretended.pending:
        if not pending.done():
            pending.set_result(Pretended.answer)


@pytest.mark.parametrize("after_s", [0.05, 0.3])
def test_nothing_is_started_after_the_stop(settings: Settings, after_s: float) -> None:
    async def test() -> None:
        pool = Decoder(settings)
        pool.start()
        decoding = [asyncio.create_task(pool.decode(b"x", GEOMETRY)) for _ in range(2)]
        await asyncio.sleep(after_s)  # while it starts, or while it decodes
        await pool.stop()
        await asyncio.sleep(0.1)
        assert Pretended.started == 1
        assert len(asyncio.all_tasks()) == 1, "all have ended"
        await asyncio.gather(*decoding, return_exceptions=True)

    asyncio.run(test())


@pytest.mark.parametrize(
    "answer",
    [
        ({}, [PIXELS]),
        ({"image": {}}, [PIXELS]),
        ({"image": {}}, []),
        ({"image": 3}, [PIXELS]),
        ({"image": {**IMAGE, "operations": "none"}}, [PIXELS]),
        ({"image": {**IMAGE, "mode": {"<b>": 1}}}, [PIXELS]),
        ({"image": {**IMAGE, "width": True}}, [PIXELS]),
        ({"image": {**IMAGE, "other": 1}}, [PIXELS]),
        ({"error": [], "detail": ""}, []),
        ({"error": "unreadable_image"}, []),
        ({"error": "unreadable_image", "detail": ["what"]}, []),
        ({"error": "no_code", "detail": "what"}, []),
    ],
)
def test_a_process_that_sends_something_else_than_an_answer_is_replaced(
    settings: Settings, answer: Answer
) -> None:
    async def test() -> None:
        Pretended.answer = answer
        pool = await started(settings)
        with pytest.raises(UnreadableImage):
            await pool.decode(b"x", GEOMETRY)
        assert Pretended.started > decoder.TRIES - 1, "none is asked twice"
        await pool.stop()

    asyncio.run(test())


def test_images_that_wait_for_a_decoder_have_their_turn_before_those_that_come_later(
    settings: Settings,
) -> None:
    async def test() -> None:
        pool = await started(settings)
        decoding = [asyncio.create_task(pool.decode(image, GEOMETRY)) for image in HALF[:3]]
        await asyncio.sleep(0.05)
        assert Pretended.asked == HALF[:2], "the others do not fit into the pipe"

        Pretended.answer = {"image": IMAGE}, [PIXELS]
        Pretended.pending[0].set_result(Pretended.answer)  # wakes the one that waits
        decoding.append(
            asyncio.create_task(pool.decode(HALF[3], GEOMETRY))
        )  # runs before that is awake
        Pretended.pending[1].set_result(Pretended.answer)
        await asyncio.gather(*decoding)

        assert Pretended.asked == HALF
        await pool.stop()

    asyncio.run(test())


def test_an_image_that_leaves_as_its_turn_comes_does_not_keep_the_decoder(
    settings: Settings,
) -> None:
    async def test() -> None:
        pool = await started(settings)
        decoding = [asyncio.create_task(pool.decode(image, GEOMETRY)) for image in HALF[:3]]
        await asyncio.sleep(0.05)

        answer_all()
        await asyncio.sleep(0)  # the one that waits is woken, and not awake
        decoding[2].cancel()
        await asyncio.gather(*decoding, return_exceptions=True)
        async with asyncio.timeout(5):
            await asyncio.gather(*(pool.decode(HALF[3], GEOMETRY) for _ in range(4)))

        assert HALF[2] not in Pretended.asked
        await pool.stop()

    asyncio.run(test())


SLOW = {
    "many bytes": SMALL + bytes(decoder_process.PREFETCH_COST),
    "many pixels": encode(Image.new("RGB", (1500, 1000), (10, 80, 200)), "WEBP", lossless=True),
    "many scans": encode(Image.new("RGB", (500, 400)), "JPEG", progressive=True),
    "nobody knows": encode(Image.new("P", (500, 400)), "GIF"),
}


@pytest.mark.parametrize("name", SLOW)
def test_small_images_share_a_pipe_and_each_goes_where_the_least_work_is(
    settings: Settings, name: str
) -> None:
    async def test() -> None:
        pool = await started(settings, workers=2)
        sent: list[asyncio.Task[DecodedImage]] = []

        async def pipes(*images: bytes) -> list[int]:
            sent.extend(asyncio.create_task(pool.decode(image, GEOMETRY)) for image in images)
            await asyncio.sleep(0.02)
            return sorted(process.images for process in pool._processes)

        assert await pipes(SLOW[name]) == [0, 1]
        assert await pipes(*[SMALL] * 3) == [1, 3], "none of them waits behind it"
        assert await pipes(*[SMALL] * 12) == [1, decoder_process.IN_PIPE], "never"
        assert len(Pretended.asked) == 9, "the others wait"

        answer_all()
        await asyncio.gather(*sent)
        assert [(process.images, process.work) for process in pool._processes] == [(0, 0), (0, 0)]
        await pool.stop()

    asyncio.run(test())


def test_an_answer_is_believed(settings: Settings) -> None:
    async def test() -> None:
        Pretended.answer = {"image": IMAGE}, [PIXELS]
        pool = await started(settings)
        assert await pool.decode(b"x", GEOMETRY) == DecodedImage(PIXELS, ImageInfo(**IMAGE))
        Pretended.answer = {"error": "image_too_large", "detail": "what"}, []
        with pytest.raises(ImageTooLarge, match="what"):
            await pool.decode(b"x", GEOMETRY)
        assert Pretended.started == 1
        await pool.stop()

    asyncio.run(test())


def test_a_decoder_that_is_killed_while_it_starts_is_started_again(settings: Settings) -> None:
    async def test() -> None:
        Pretended.answer = {"image": IMAGE}, [PIXELS]
        Pretended.failing = 1
        pool = Decoder(settings)
        pool.start()
        assert await pool.decode(SMALL, GEOMETRY) == DecodedImage(PIXELS, ImageInfo(**IMAGE))
        assert Pretended.started == 2
        await pool.stop()

    asyncio.run(test())


def test_where_no_decoder_can_be_started_clients_are_told_and_it_is_tried_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        monkeypatch.setattr(decoder, "NO_START_S", 0.5)
        Pretended.answer = {"image": IMAGE}, [PIXELS]
        Pretended.failing = 2
        pool = Decoder(settings)
        pool.start()
        for _ in range(3):  # the first one waits for the start, the others come later
            with pytest.raises(DecoderUnavailable, match="the log says why"):
                await pool.decode(SMALL, GEOMETRY)
        assert Pretended.started == 2, "they did not try again at once"
        await asyncio.sleep(1.5)
        assert Pretended.started == 3, "nobody has asked for that one"
        assert await pool.decode(SMALL, GEOMETRY) == DecodedImage(PIXELS, ImageInfo(**IMAGE))
        await pool.stop()

    asyncio.run(test())


def test_images_go_to_the_decoders_that_run_while_another_can_not_be_started(
    settings: Settings,
) -> None:
    async def test() -> None:
        Pretended.answer = {"image": IMAGE}, [PIXELS]
        Pretended.failing = 3  # once for one of them, twice for the other
        pool = await started(settings, workers=2)
        assert Pretended.started == 4
        assert sorted(process.running for process in pool._processes) == [False, True]
        for _ in range(3):
            decoding = [pool.decode(image, GEOMETRY) for image in [SMALL] * 5 + HALF]
            assert len(await asyncio.gather(*decoding)) == 9
        await pool.stop()

    asyncio.run(test())


def test_images_whose_decoder_ends_go_to_one_that_runs_and_not_to_one_that_starts(
    settings: Settings,
) -> None:
    async def test() -> None:
        pool = await started(settings, workers=2)
        decoding = [asyncio.create_task(pool.decode(SMALL, GEOMETRY)) for _ in range(4)]
        await asyncio.sleep(0.02)
        await pool._processes[0].kill()
        await asyncio.sleep(0.05)
        assert sorted((process.running, process.images) for process in pool._processes) == [
            (False, 0),
            (True, 4),
        ]
        assert len(Pretended.asked) == 6

        answer_all()
        await asyncio.gather(*decoding)
        await pool.stop()

    asyncio.run(test())


def test_images_whose_decoder_ends_have_their_turn_before_those_that_came_later(
    settings: Settings,
) -> None:
    async def test() -> None:
        pool = await started(settings, workers=2)
        decoding = [asyncio.create_task(pool.decode(image, GEOMETRY)) for image in HALF * 2]
        await asyncio.sleep(0.02)
        assert Pretended.asked == HALF, "both pipes are full, and four wait"
        ended, other = pool._processes  # the one that has had an image last stands last

        await ended.kill()  # the first and the third are in it
        await asyncio.sleep(0.5)
        assert Pretended.asked == [*HALF, HALF[0], HALF[2]]
        assert (ended.images, other.images) == (2, 2)

        answer_all()
        await asyncio.gather(*decoding)
        assert Pretended.asked[6:] == HALF
        await pool.stop()

    asyncio.run(test())


def test_a_decoder_that_ends_without_an_image_is_started_again_whatever_another_one_does(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        monkeypatch.setattr(decoder, "NO_START_S", 0.1)
        pool = await started(settings, workers=2)
        defect, other = pool._processes

        async def fail() -> None:
            raise ValueError("what nobody has thought of")

        with monkeypatch.context() as patch:
            patch.setattr(defect, "start", fail)
            await defect.kill()
            await other.kill()
            await asyncio.sleep(1)
            assert other.running
            assert not defect.running
        await asyncio.sleep(0.5)
        assert defect.running
        await pool.stop()

    asyncio.run(test())


def test_a_place_that_is_given_as_the_pool_stops_is_of_no_use(settings: Settings) -> None:
    async def test() -> None:
        pool = await started(settings)
        decoding = [asyncio.create_task(pool.decode(image, GEOMETRY)) for image in HALF[:3]]
        await asyncio.sleep(0.02)
        Pretended.answer = {"image": IMAGE}, [PIXELS]
        Pretended.pending[0].set_result(Pretended.answer)
        while pool._waiting:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await pool.stop()
        await asyncio.gather(*decoding, return_exceptions=True)
        assert Pretended.started == 1
        assert [(process.images, process.work) for process in pool._processes] == [(0, 0)]

    asyncio.run(test())
