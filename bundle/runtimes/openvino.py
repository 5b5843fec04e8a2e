"""OpenVINO artifacts: an IR from `pixels` to `logits`, and from `class_index` to `heatmap`."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bundle.errors import RuntimeUnavailable
from bundle.machine import usable_cores
from bundle.runtimes import Device, Outputs
from bundle.runtimes.embeddings import add_openvino_output

# The plugin's precision where the graph has none of its own; int8 layers stay int8 with either.
_HINTS = {"fp32": "f32", "int8": "f32", "bf16": "bf16"}
# A forward pass of one image that takes less is over before a second thread helps: on the shipped
# ResNet-20 in int8 (0.3 ms) two threads are 1.4 times as slow as one, and use three times the CPU
# time.
SHORT_S = 0.001
# How long passes are timed to find that out. Other load can only lengthen them, so a close result
# is timed for longer.
TRIAL_S, CLOSE_S, CLOSE_TRIAL_S = 0.02, 0.005, 0.2
# The batch sizes that a stream is compiled for; a batch is split into the largest that fit. A graph
# with a dynamic batch size is prepared again whenever the size changes, which costs 3 ms for
# ResNet-50 and 0.45 ms for ResNet-20, as much as the pass of an image or two, and is slower too.
# Small networks gain by larger batches; large ones gain little, and each size keeps the weights.
SIZES: tuple[int, ...] = (4, 1)
SHORT_SIZES: tuple[int, ...] = (16, 4, 1)


def import_openvino() -> Any:
    """Import `openvino` without its telemetry.

    Its import would send a usage event over the network, by the optional package
    openvino_telemetry.
    """
    modules: dict[str, Any] = sys.modules
    modules["openvino_telemetry"] = None  # so that its import fails
    # The one heavy import, here so that this package never loads it in the web process.
    import openvino  # noqa: PLC0415

    return openvino


def load(
    path: Path,
    device: Device,
    threads: int | None,
    precision: str,
    compiled: Path | None,
    *,
    short_s: float = SHORT_S,
) -> OpenVinoModel:
    """Read the IR at `path` and compile it for the CPU, with a cache in `compiled`.

    A network whose pass of one image takes less than `short_s` seconds has one thread for it.
    """
    ov = import_openvino()
    if device == "cuda":
        raise RuntimeUnavailable(
            "An OpenVINO artifact runs on the CPU. Use device 'auto' or 'cpu', or another "
            "artifact. Received: 'cuda'"
        )
    core = ov.Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise RuntimeUnavailable(
            "This processor has no bf16 instructions. Use the artifact of another precision. "
            "Received: 'bf16'"
        )
    config: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        # Pinned threads of two models would share one core while another one idles.
        "ENABLE_CPU_PINNING": False,
    }
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = threads
    if compiled is not None:
        config["CACHE_DIR"] = str(compiled)
    model = core.read_model(path)
    # As one more output: on the shipped networks a pass with it takes no longer, and its logits are
    # the same, in int8 too.
    embedding = add_openvino_output(model)
    alone = Stream({1: _compile(core, model, 1, config | {"PERFORMANCE_HINT": "LATENCY"})})
    image = np.zeros((1, *_image_shape(model)), np.uint8)
    short = is_short(lambda: alone.run(image), short_s)
    if short:
        count = threads or usable_cores()
        config |= {"INFERENCE_NUM_THREADS": count, "NUM_STREAMS": count}
        sizes = SHORT_SIZES
    else:
        config |= {"PERFORMANCE_HINT": "THROUGHPUT"}
        sizes = SIZES
    by_size = {size: _compile(core, model, size, config) for size in sizes}
    count = by_size[1].get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
    streams = [Stream(by_size) for _ in range(count)]
    return OpenVinoModel(None if short else alone, streams, embedding, ov.get_version())


def _compile(core: Any, model: Any, images: int, config: dict[str, Any]) -> Any:
    """The model compiled for batches of `images` images."""
    shapes = {"pixels": [images, *_image_shape(model)]}
    if len(model.inputs) > 1:
        shapes["class_index"] = [images]
    model.reshape(shapes)
    return core.compile_model(model, "CPU", config)


def _image_shape(model: Any) -> list[int]:
    return [side.get_length() for side in list(model.input("pixels").partial_shape)[1:]]


def is_short(
    run: Callable[[], object], short_s: float, clock: Callable[[], float] = time.perf_counter
) -> bool:
    """Whether the fastest of some calls of `run` takes less than `short_s` seconds."""
    run()  # the first call creates the kernels
    started = clock()
    fastest = math.inf
    while (before := clock()) < started + (CLOSE_TRIAL_S if fastest < CLOSE_S else TRIAL_S):
        run()
        fastest = min(fastest, clock() - before)
        if fastest < short_s:
            return True
    return False


class Stream:
    """Infer requests for some batch sizes, one of them 1, which run one after another.

    Args:
        compiled: A compiled model by batch size.
    """

    def __init__(self, compiled: dict[int, Any]) -> None:
        self._requests = {
            size: compiled[size].create_infer_request() for size in sorted(compiled, reverse=True)
        }
        # An IR without heat maps lacks it.
        self._takes_class = any("class_index" in port.get_names() for port in compiled[1].inputs)

    def run(
        self,
        pixels: npt.NDArray[np.uint8],
        class_index: npt.NDArray[np.int64] | None = None,
        embeddings: bool = False,
    ) -> Outputs:
        """As `bundle.runtimes.Model.run`, in the largest batches that fit.

        The graph computes all its outputs in any case; those that are not asked for are not copied.
        """
        names = ["logits"]
        if class_index is not None:
            names.append("heatmap")
        if embeddings:
            names.append("embedding")
        given: dict[str, npt.NDArray[Any]] = {"pixels": pixels}
        if self._takes_class:
            given["class_index"] = (
                np.zeros(len(pixels), np.int64) if class_index is None else class_index
            )
        found = []
        start = 0
        while start < len(pixels):
            size, request = next(
                (size, request)
                for size, request in self._requests.items()
                if size <= len(pixels) - start
            )
            part = {name: array[start : start + size] for name, array in given.items()}
            request.infer(part, share_inputs=True)
            arrays = {name: request.get_tensor(name).data.copy() for name in names}
            if embeddings:
                arrays["embedding"] = arrays["embedding"].reshape(size, -1)
            found.append(Outputs(arrays["logits"], arrays.get("heatmap"), arrays.get("embedding")))
            start += size
        return _joined(found)


def _joined(parts: list[Outputs]) -> Outputs:
    """The outputs of all parts of a batch."""
    if len(parts) == 1:
        return parts[0]
    logits, *others = zip(*parts, strict=True)
    return Outputs(
        np.concatenate(logits),
        *(None if arrays[0] is None else np.concatenate(arrays) for arrays in others),
    )


class OpenVinoModel:
    """An IR on the CPU: compiled for one image on all threads, and for streams of one thread each.

    Streams have no barrier after every layer. On two cores that also decode images, a batch divided
    between streams takes 0.6 times as long as with all threads on each layer; a single image would
    take 1.4 times as long, unless its pass is short: then `alone` is None, and it has a stream.
    """

    runtime = "openvino"
    note = ""
    device = "cpu"

    def __init__(
        self, alone: Stream | None, streams: list[Stream], embedding: int | None, version: str
    ) -> None:
        self.streams = len(streams)
        self.embedding = embedding
        self._alone = alone
        self._free = streams
        self._released = threading.Condition()
        # Whose turn it is: a call that needs all streams would never get them otherwise.
        self._turns: deque[object] = deque()
        self._pool = ThreadPoolExecutor(self.streams)
        self.runtime_version = version.partition("-")[0]

    def run(
        self,
        pixels: npt.NDArray[np.uint8],
        class_index: npt.NDArray[np.int64] | None = None,
        *,
        embeddings: bool = False,
        on_stream: bool = False,
    ) -> Outputs:
        """See `bundle.runtimes.Model`; on all cores a batch is divided between the streams."""
        if on_stream or (len(pixels) == 1 and self._alone is None):
            with self._streams(1) as (stream,):
                return stream.run(pixels, class_index, embeddings)
        with self._streams(self.streams) as streams:
            if len(pixels) == 1 and self._alone is not None:
                return self._alone.run(pixels, class_index, embeddings)
            streams = streams[: len(pixels)]
            count = len(streams)
            classes = [None] * count if class_index is None else np.array_split(class_index, count)
            images = np.array_split(pixels, count)
            return _joined(
                list(self._pool.map(Stream.run, streams, images, classes, [embeddings] * count))
            )

    @contextmanager
    def _streams(self, count: int) -> Iterator[list[Stream]]:
        """Take `count` streams as soon as they are free, first come, first served."""
        turn = object()
        with self._released:
            self._turns.append(turn)
            self._released.wait_for(lambda: self._turns[0] is turn and len(self._free) >= count)
            self._turns.popleft()
            taken, self._free = self._free[:count], self._free[count:]
            self._released.notify_all()
        try:
            yield taken
        finally:
            with self._released:
                self._free = [*self._free, *taken]
                self._released.notify_all()
