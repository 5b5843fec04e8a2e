"""CUDA graphs, but for the recording itself, which needs CUDA: its stand-in keeps fixed buffers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from bundle.format.manifest import read_manifest
from bundle.runtimes import load_model
from bundle.runtimes.graphs import Graphs

Forward = Callable[[torch.Tensor], torch.Tensor]


def network(images: torch.Tensor) -> torch.Tensor:
    """Mean and maximum of each image: logits [N, 2]."""
    values = images.flatten(1).float()
    return torch.stack([values.mean(1), values.amax(1)], 1)


def images(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 4, 4, 3), dtype=torch.uint8)


class Recorder:
    """Records as CUDA does: for one number of images, from and to the same memory."""

    def __init__(self, error: float = 0.0) -> None:
        self.error = error  # of the logits of recordings, as a share of each
        self.sizes: list[int] = []
        self.replays = 0

    def __call__(self, forward: Forward, batch: torch.Tensor, size: int) -> Forward:
        self.sizes.append(size)
        inputs = batch.new_zeros((size, *batch.shape[1:]))
        outputs = forward(inputs)

        def replay(batch: torch.Tensor) -> torch.Tensor:
            self.replays += 1
            inputs[: len(batch)] = batch
            outputs.copy_(forward(inputs) * (1 + self.error))
            return outputs[: len(batch)]

        return replay


def test_each_power_of_two_is_recorded_once_and_replayed_for_the_smaller_batches() -> None:
    recorder = Recorder()
    graphs = Graphs(network, recorder)

    for count in (1, 3, 4, 1, 5, 8, 3):
        batch = images(count)
        torch.testing.assert_close(graphs.run(batch), network(batch))

    assert recorder.sizes == [1, 4, 8]
    assert recorder.replays == 7  # the first of each size for the comparison
    assert graphs.problem == ""


def test_a_recording_that_gives_other_logits_is_not_used() -> None:
    graphs, batch = Graphs(network, Recorder(error=0.02)), images(2)

    for _ in range(2):
        torch.testing.assert_close(graphs.run(batch), network(batch))

    assert graphs.problem == "RuntimeError: its logits differ by 0.02 of the largest"


def test_where_recording_fails_passes_are_plain_ones() -> None:
    attempts = 0

    def fails(_forward: Forward, _images: torch.Tensor, _size: int) -> Forward:
        nonlocal attempts
        attempts += 1
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    graphs, batch = Graphs(network, fails), images(2)

    for _ in range(2):
        torch.testing.assert_close(graphs.run(batch), network(batch))

    assert attempts == 1
    assert graphs.problem.endswith("operation not permitted when stream is capturing")


def test_fp32_is_not_tf32(torch_bundle_root: Path) -> None:
    bundle = torch_bundle_root / "tiny-torch" / "1"
    convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    convolutions.fp32_precision = "tf32"  # PyTorch's default

    load_model(bundle, read_manifest(bundle).source, "cpu", None)

    assert convolutions.fp32_precision == "ieee"
