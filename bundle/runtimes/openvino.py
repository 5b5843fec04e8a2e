"""OpenVINO artifacts: an IR with the inputs ``pixels``, ``class_index`` and the outputs ``logits``, ``heatmap``."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bundle.errors import RuntimeUnavailable
from bundle.runtimes import Device, Heatmap, Logits

# What the plugin computes in where the graph says nothing else; int8 layers stay int8 with either.
_HINTS = {"fp32": "f32", "int8": "f32", "bf16": "bf16"}
# A pass of one image under this is over before a second thread is of use: on the shipped ResNet-20 in int8 (0.3 ms) two
# threads are 1.4 times as slow as one, and take three times the processor time.
SHORT_S = 0.001
# Passes after the first one to find that out. What else runs can only lengthen them, so where it is a close thing there are more.
TRIAL_S, CLOSE_S, CLOSE_TRIAL_S = 0.02, 0.005, 0.2
# Batches that a stream is compiled for; of what it gets it makes as large ones as go. A graph for any number of images has to
# be made ready anew whenever that changes, which costs 3 ms for ResNet-50 and 0.45 ms for ResNet-20, as much as the pass of an
# image or two, and is slower besides. Small networks gain by larger batches; large ones little, and each size has the weights.
SIZES: tuple[int, ...] = (4, 1)
SHORT_SIZES: tuple[int, ...] = (16, 4, 1)


def import_openvino() -> Any:
    """The module ``openvino``, imported so that it reports nothing to its makers.

    It would send a usage event over the network at its import. It does without the package that sends, openvino_telemetry.
    """
    modules: dict[str, Any] = sys.modules
    modules["openvino_telemetry"] = None  # makes the import of it fail
    # The one heavy import, here so that this package never loads it in the web process.
    import openvino  # noqa: PLC0415

    return openvino


def load(
    path: Path, device: Device, threads: int | None, precision: str, compiled: Path | None
) -> OpenVinoModel:
    """Read the IR at ``path`` and compile it for the CPU, or take what was compiled at another start."""
    ov = import_openvino()
    if device == "cuda":
        raise RuntimeUnavailable(
            "An OpenVINO artifact runs on the CPU. Use device 'auto' or 'cpu', or another artifact. Received: 'cuda'"
        )
    core = ov.Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise RuntimeUnavailable(
            "This processor has no bf16 instructions. Use the artifact of another precision. Received: 'bf16'"
        )
    config: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        # Pinned threads of two models would share one core while the next one idles.
        "ENABLE_CPU_PINNING": False,
    }
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = threads
    if compiled is not None:
        config["CACHE_DIR"] = str(compiled)
    model = core.read_model(path)
    alone = _compile(core, model, 1, config | {"PERFORMANCE_HINT": "LATENCY"})
    if _is_short(alone):
        config |= {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
        sizes = SHORT_SIZES
    else:
        config |= {"PERFORMANCE_HINT": "THROUGHPUT"}
        sizes = SIZES
    compiled_for = {size: _compile(core, model, size, config) for size in sizes}
    count: int = compiled_for[1].get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
    streams = [
        Stream({size: each.create_infer_request() for size, each in compiled_for.items()})
        for _ in range(count)
    ]
    return OpenVinoModel(Stream({1: alone.create_infer_request()}), streams, ov.get_version())


def _compile(core: Any, model: Any, images: int, config: dict[str, Any]) -> Any:
    """The model compiled for batches of so many images."""
    _, *sides = model.input("pixels").partial_shape
    model.reshape(
        {"pixels": [images, *(side.get_length() for side in sides)], "class_index": [images]}
    )
    return core.compile_model(model, "CPU", config)


def _is_short(compiled: Any) -> bool:
    """Whether the pass of one image takes less than SHORT_S."""
    stream = Stream({1: compiled.create_infer_request()})
    shape = compiled.input("pixels").shape
    pixels, class_index = np.zeros(shape, np.uint8), np.zeros(1, np.int64)
    stream.run(pixels, class_index)  # makes the kernels
    begun = time.perf_counter()
    shortest = math.inf
    while (before := time.perf_counter()) < begun + (
        CLOSE_TRIAL_S if shortest < CLOSE_S else TRIAL_S
    ):
        stream.run(pixels, class_index)
        shortest = min(shortest, time.perf_counter() - before)
        if shortest < SHORT_S:
            return True
    return False


class Stream:
    """Requests for batches of some sizes, one of them 1, that run one after another."""

    def __init__(self, requests: dict[int, Any]) -> None:
        self._requests = dict(sorted(requests.items(), reverse=True))

    def run(
        self, pixels: npt.NDArray[np.uint8], class_index: npt.NDArray[np.int64]
    ) -> tuple[Logits, Heatmap]:
        """Logits [N, C] and heat maps [N, h, w] of any number of images, in as large batches as go."""
        found = []
        start = 0
        while start < len(pixels):
            size, request = next(
                (size, request)
                for size, request in self._requests.items()
                if size <= len(pixels) - start
            )
            part = slice(start, start + size)
            request.infer(
                {"pixels": pixels[part], "class_index": class_index[part]}, share_inputs=True
            )
            found.append([request.get_tensor(name).data.copy() for name in ("logits", "heatmap")])
            start += size
        logits, heatmaps = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        return logits, heatmaps


class OpenVinoModel:
    """An IR on the CPU: compiled for one image, on which all threads work, and for streams of one thread each.

    The streams do not wait for each other after every layer. On two cores that decode images meanwhile a batch that they
    divide takes 0.6 of the time that it takes with all threads on each layer; one image alone would take 1.4 times as long.
    A network whose pass is short has one stream for everything.
    """

    runtime = "openvino"
    device = "cpu"

    def __init__(self, alone: Stream, streams: list[Stream], version: str) -> None:
        self.streams = len(streams)
        self._alone = alone if self.streams > 1 else streams[0]
        self._free = streams
        self._changed = threading.Condition()
        self._side_by_side = ThreadPoolExecutor(self.streams)
        self.runtime_version = version.partition("-")[0]

    def infer(self, pixels: npt.NDArray[np.uint8]) -> Logits:
        """See :class:`bundle.runtimes.Model`. The heat map comes along: it costs one small product."""
        return self.explain(pixels, np.zeros(len(pixels), np.int64))[0]

    def infer_on_stream(self, pixels: npt.NDArray[np.uint8]) -> Logits:
        """See :class:`bundle.runtimes.Model`."""
        with self._streams(1) as (stream,):
            return stream.run(pixels, np.zeros(len(pixels), np.int64))[0]

    def explain(
        self, pixels: npt.NDArray[np.uint8], class_index: npt.NDArray[np.int64]
    ) -> tuple[Logits, Heatmap]:
        """See :class:`bundle.runtimes.Model`. A batch is divided between the streams."""
        with self._streams(self.streams) as streams:
            streams = streams[: len(pixels)]
            if len(streams) == 1:
                return (self._alone if len(pixels) == 1 else streams[0]).run(pixels, class_index)
            parts = (np.array_split(array, len(streams)) for array in (pixels, class_index))
            answers = list(self._side_by_side.map(Stream.run, streams, *parts))
        logits, heatmaps = (np.concatenate(arrays) for arrays in zip(*answers, strict=True))
        return logits, heatmaps

    @contextmanager
    def _streams(self, count: int) -> Iterator[list[Stream]]:
        """So many streams, once they are free."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._free) >= count)
            taken, self._free = self._free[:count], self._free[count:]
        try:
            yield taken
        finally:
            with self._changed:
                self._free = [*self._free, *taken]
                self._changed.notify_all()
