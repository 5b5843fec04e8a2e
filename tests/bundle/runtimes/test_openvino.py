"""An OpenVINO model with several streams gives the same results as with one."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from bundle.runtimes import openvino

IR = Path(__file__).resolve().parents[3] / "models/cifar10-resnet20-pytorch/1/openvino/fp32.xml"
WITHIN = 1e-3


@pytest.fixture
def streams() -> openvino.OpenVinoModel:
    """The shipped ResNet-20, with its pass counted as long."""
    model = openvino.load(IR, "cpu", 2, "fp32", None, short_s=0)
    assert model.streams == 2
    return model


def random_images(count: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3), np.uint8)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_network_whose_pass_is_short_has_a_stream_for_each_thread(threads: int) -> None:
    assert openvino.load(IR, "cpu", threads, "fp32", None, short_s=math.inf).streams == threads


class Timed:
    """A forward pass on its own clock: each call takes the next of `seconds`, then the last."""

    def __init__(self, *seconds: float) -> None:
        self.now = 0.0
        self._seconds = list(seconds)

    def run(self) -> None:
        self.now += self._seconds.pop(0) if len(self._seconds) > 1 else self._seconds[0]

    def clock(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("seconds", "short"),
    [
        ([0.5, 0.0009], True),
        ([0.0009, 0.0011], False),
        ([0.5, *[0.0049] * 20, 0.0009], True),
        ([0.5, *[0.0051] * 20, 0.0009], False),
    ],
    ids=["short", "only-the-first-call", "close-and-once-short", "not-close"],
)
def test_a_pass_is_short_when_one_that_is_not_the_first_is(
    seconds: list[float], short: bool
) -> None:
    passes = Timed(*seconds)

    assert openvino.is_short(passes.run, 0.001, passes.clock) is short


@pytest.mark.parametrize("short_s", [0, math.inf], ids=["streams", "one-thread"])
def test_an_image_has_the_same_result_in_a_batch_of_any_size(short_s: float) -> None:
    model = openvino.load(IR, "cpu", 2, "fp32", None, short_s=short_s)
    images = random_images(max(openvino.SHORT_SIZES) + 6)
    classes = np.arange(len(images)) % 10
    alone = [
        model.run(images[i : i + 1], classes[i : i + 1], embeddings=True)
        for i in range(len(images))
    ]

    for count in range(1, len(images) + 1):
        together = model.run(images[:count], classes[:count], embeddings=True)
        for found, expected in zip(together, zip(*alone, strict=True), strict=True):
            assert found is not None
            assert len(found) == count
            assert np.abs(found - np.concatenate(expected[:count])).max() < WITHIN


def test_concurrent_streams_give_each_caller_its_own_result(
    streams: openvino.OpenVinoModel,
) -> None:
    batches = [random_images(1 + number % 5) for number in range(40)]
    whole = [streams.run(batch).logits for batch in batches]

    with ThreadPoolExecutor(4) as pool:  # more than there are streams
        on_streams = list(pool.map(lambda batch: streams.run(batch, on_stream=True), batches))
        mixed = list(pool.map(lambda n: streams.run(batches[n], on_stream=n % 2 > 0), range(40)))

    for expected, *found in zip(whole, on_streams, mixed, strict=True):
        for logits in (outputs.logits for outputs in found):
            assert logits.shape == expected.shape
            assert np.abs(logits - expected).max() < WITHIN


def test_a_call_that_fails_gives_its_stream_back(streams: openvino.OpenVinoModel) -> None:
    for _ in range(4):
        with pytest.raises(RuntimeError):
            streams.run(np.zeros((2, 7, 7, 3), np.uint8), on_stream=True)
        with pytest.raises(RuntimeError):
            streams.run(np.zeros((2, 7, 7, 3), np.uint8))

    assert streams.run(random_images(3)).logits.shape == (3, 10)


def test_a_lone_image_gets_its_turn_among_batches_that_never_pause(
    streams: openvino.OpenVinoModel,
) -> None:
    done = threading.Event()

    def batches() -> None:
        while not done.is_set():
            streams.run(random_images(2), on_stream=True)

    with ThreadPoolExecutor(4) as pool:  # more than there are streams
        running = [pool.submit(batches) for _ in range(4)]
        try:
            for _ in range(5):
                assert streams.run(random_images(1)).logits.shape == (1, 10)
        finally:
            done.set()
        for each in running:
            each.result()
