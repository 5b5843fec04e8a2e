"""CUDA graphs, but for the recording itself, which needs CUDA: its stand-in has fixed arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bundle.runtimes.graphs import Graphs

# NumPy's arrays stand in for tensors of PyTorch, which tests never load.
Array = Any
Forward = Callable[[Array], Array]
RANDOM = np.random.default_rng(0)


def network(images: Array) -> Array:
    """Mean and maximum of each image: logits [N, 2]."""
    values = images.reshape(len(images), -1).astype(np.float32)
    return np.stack([values.mean(1), values.max(1)], 1)


def images(count: int) -> Array:
    return RANDOM.integers(0, 256, (count, 4, 4, 3), np.uint8)


class Recorder:
    """Records as CUDA does: for one number of images, from and to the same memory."""

    def __init__(self, error: float = 0.0) -> None:
        self.error = error  # of the logits of recordings, as a share of each
        self.sizes: list[int] = []
        self.replays = 0

    def __call__(self, forward: Forward, batch: Array, size: int) -> Forward:
        self.sizes.append(size)
        inputs = np.zeros((size, *batch.shape[1:]), batch.dtype)
        outputs = forward(inputs)

        def replay(batch: Array) -> Array:
            self.replays += 1
            inputs[: len(batch)] = batch
            outputs[:] = forward(inputs) * (1 + self.error)
            return outputs[: len(batch)]

        return replay


def test_each_power_of_two_is_recorded_once_and_replayed_for_the_smaller_batches() -> None:
    recorder = Recorder()
    graphs = Graphs(network, recorder)

    for count in (1, 3, 4, 1, 5, 8, 3):
        batch = images(count)
        np.testing.assert_allclose(graphs.run(batch), network(batch))

    assert recorder.sizes == [1, 4, 8]
    assert recorder.replays == 7  # the first of each size for the comparison
    assert graphs.problem == ""


def test_a_recording_that_gives_other_logits_is_not_used() -> None:
    graphs, batch = Graphs(network, Recorder(error=0.02)), images(2)

    for _ in range(2):
        np.testing.assert_array_equal(graphs.run(batch), network(batch))

    assert graphs.problem == "RuntimeError: its logits differ by 0.02 of the largest"


def test_where_recording_fails_passes_are_plain_ones() -> None:
    attempts = 0

    def fails(_forward: Forward, _images: Array, _size: int) -> Forward:
        nonlocal attempts
        attempts += 1
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    graphs, batch = Graphs(network, fails), images(2)

    for _ in range(2):
        np.testing.assert_array_equal(graphs.run(batch), network(batch))

    assert attempts == 1
    assert graphs.problem.endswith("operation not permitted when stream is capturing")
