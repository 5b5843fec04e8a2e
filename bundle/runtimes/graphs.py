"""CUDA graphs: all kernels of a forward pass in one launch, recorded for each power of two."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

from bundle.runtimes import describe

if TYPE_CHECKING:
    import torch

    Forward = Callable[[torch.Tensor], torch.Tensor]

# Passes before recording, in which PyTorch compiles and cuDNN chooses its algorithms.
WARM_UP = 3
# The largest difference of a logit from that of a plain pass, as a share of the largest logit.
TOLERANCE = 0.01


class Graphs:
    """Runs a network through recordings of its passes, or plainly where recording fails.

    The first batch of each power of two is recorded, and the recording is compared with a plain
    pass of that batch. `problem` says why there are no recordings; empty: there are.

    Args:
        forward: From images, uint8 [N, H, W, 3], to logits, [N, C], on the device.
        record: Gets `forward`, the images of a batch and their number in the recording, at least as
            many, and returns the recording; it may return the same tensor at each call.
    """

    def __init__(
        self, forward: Forward, record: Callable[[Forward, torch.Tensor, int], Forward]
    ) -> None:
        self._forward = forward
        self._record = record
        self._recorded: dict[int, Forward] = {}
        self.problem = ""

    def run(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [N, C], to be read before the next call. Not thread-safe."""
        size = 1 << (len(images) - 1).bit_length()
        if recorded := self._recorded.get(size):
            return recorded(images)
        expected = self._forward(images)
        if not self.problem:
            try:
                self._add(images, size, expected)
            except RuntimeError as exc:  # the type of all that PyTorch raises from CUDA
                self._recorded.clear()
                self.problem = describe(exc)
        return expected

    def _add(self, images: torch.Tensor, size: int, expected: torch.Tensor) -> None:
        recorded = self._record(self._forward, images, size)
        difference = float(abs(recorded(images) - expected).max() / abs(expected).max())
        if not difference <= TOLERANCE:
            raise RuntimeError(f"its logits differ by {difference:.2g} of the largest")
        self._recorded[size] = recorded


def record_cuda(pytorch: ModuleType, forward: Forward, images: torch.Tensor, size: int) -> Forward:
    """Record `forward` for `size` images on the current CUDA device; see `Graphs`."""
    # Replays read and write the same memory.
    inputs = images.new_zeros((size, *images.shape[1:]))
    stream, graph = pytorch.cuda.Stream(), pytorch.cuda.CUDAGraph()
    stream.wait_stream(pytorch.cuda.current_stream())
    with pytorch.cuda.stream(stream):
        for _ in range(WARM_UP):
            forward(inputs)
    pytorch.cuda.current_stream().wait_stream(stream)
    # Other threads only decode during the capture.
    with pytorch.cuda.graph(graph, capture_error_mode="thread_local"):
        outputs = forward(inputs)

    def replay(batch: torch.Tensor) -> torch.Tensor:
        inputs[: len(batch)].copy_(batch)
        graph.replay()
        logits: torch.Tensor = outputs[: len(batch)]
        return logits

    return replay
