"""An OpenVINO model with several streams: the same answers, whoever asks beside."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from bundle.runtimes import openvino

IR = Path(__file__).resolve().parents[3] / "models/cifar10-resnet20-pytorch/1/openvino/fp32.xml"
WITHIN = 1e-3


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> openvino.OpenVinoModel:
    """The shipped ResNet-20 as if its pass were long."""
    monkeypatch.setattr(openvino, "SHORT_S", 0.0)
    model = openvino.load(IR, "cpu", 2, "fp32", None)
    assert model.streams == 2
    return model


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3), np.uint8)


def test_a_network_whose_pass_is_short_has_one_thread() -> None:
    assert openvino.load(IR, "cpu", 2, "fp32", None).streams == 1


@pytest.mark.parametrize("short_s", [0.0, 1.0])
def test_an_image_has_the_same_answer_in_a_batch_of_any_size(
    monkeypatch: pytest.MonkeyPatch, short_s: float
) -> None:
    monkeypatch.setattr(openvino, "SHORT_S", short_s)
    model = openvino.load(IR, "cpu", 2, "fp32", None)
    images = pictures(max(openvino.SHORT_SIZES) + 6)
    classes = np.arange(len(images)) % 10
    alone = [model.explain(images[i : i + 1], classes[i : i + 1]) for i in range(len(images))]

    for count in range(1, len(images) + 1):
        for found, expected in zip(
            model.explain(images[:count], classes[:count]), zip(*alone, strict=True), strict=True
        ):
            assert len(found) == count
            assert np.abs(found - np.concatenate(expected[:count])).max() < WITHIN


def test_streams_that_work_side_by_side_give_each_caller_its_own_answer(
    streams: openvino.OpenVinoModel,
) -> None:
    batches = [pictures(1 + number % 5) for number in range(40)]
    whole = [streams.infer(batch) for batch in batches]

    with ThreadPoolExecutor(4) as pool:  # more than there are streams: they take turns
        beside = list(pool.map(streams.infer_on_stream, batches))
        mixed = list(
            pool.map(
                lambda n: (streams.infer, streams.infer_on_stream)[n % 2](batches[n]), range(40)
            )
        )

    for expected, *found in zip(whole, beside, mixed, strict=True):
        for logits in found:
            assert logits.shape == expected.shape
            assert np.abs(logits - expected).max() < WITHIN


def test_a_call_that_fails_gives_its_stream_back(streams: openvino.OpenVinoModel) -> None:
    for _ in range(4):
        with pytest.raises(RuntimeError):
            streams.infer_on_stream(np.zeros((2, 7, 7, 3), np.uint8))
        with pytest.raises(RuntimeError):
            streams.infer(np.zeros((2, 7, 7, 3), np.uint8))

    assert streams.infer(pictures(3)).shape == (3, 10)
