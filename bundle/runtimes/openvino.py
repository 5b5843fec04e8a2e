"""OpenVINO artifacts: an IR with the inputs ``pixels``, ``class_index`` and the outputs ``logits``, ``heatmap``."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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
TRIAL_S = 0.02  # of passes, after the first one, to find that out; what else runs can only lengthen them


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
    alone = core.compile_model(path, "CPU", config | {"PERFORMANCE_HINT": "LATENCY"}).create_infer_request()
    if _is_short(alone):
        single = core.compile_model(path, "CPU", config | {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1})
        request = single.create_infer_request()
        return OpenVinoModel(request, [request], ov.get_version())
    together = core.compile_model(path, "CPU", config | {"PERFORMANCE_HINT": "THROUGHPUT"})
    count: int = together.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
    return OpenVinoModel(alone, [together.create_infer_request() for _ in range(count)], ov.get_version())


def _is_short(request: Any) -> bool:
    """Whether the pass of one image takes less than SHORT_S."""
    shape = request.model_inputs[0].partial_shape
    inputs = {"pixels": np.zeros((1, *(side.get_length() for side in shape[1:])), np.uint8)}
    inputs["class_index"] = np.zeros(1, np.int64)
    request.infer(inputs)  # makes the kernels
    begun = time.perf_counter()
    while (before := time.perf_counter()) < begun + TRIAL_S:
        request.infer(inputs)
        if time.perf_counter() - before < SHORT_S:
            return True
    return False


class OpenVinoModel:
    """An IR on the CPU, compiled twice: for one image, on which all threads work, and for batches.

    For batches there is a stream of one thread for each core, which do not wait for each other after every layer. On two
    cores that decode images meanwhile a batch takes 0.6 of the time that it takes with all threads on each layer; one image
    alone would take 1.4 times as long. The second compilation costs about the memory of the weights. A network whose pass
    is short has one thread for everything.
    """

    runtime = "openvino"
    device = "cpu"

    def __init__(self, alone: Any, streams: list[Any], version: str) -> None:
        self._alone = alone
        self._free = streams
        self._changed = threading.Condition()
        self.streams = len(streams)
        self.runtime_version = version.partition("-")[0]

    def infer(self, pixels: npt.NDArray[np.uint8]) -> Logits:
        """See :class:`bundle.runtimes.Model`. The heat map comes along: it costs one small product."""
        return self.explain(pixels, np.zeros(len(pixels), np.int64))[0]

    def infer_beside(self, pixels: npt.NDArray[np.uint8]) -> Logits:
        """See :class:`bundle.runtimes.Model`."""
        with self._streams(1) as (requests, all_free):
            request = self._alone if len(pixels) == 1 and all_free else requests[0]
            request.infer(
                {"pixels": pixels, "class_index": np.zeros(len(pixels), np.int64)}, share_inputs=True
            )
            logits: Logits = request.get_tensor("logits").data.copy()
            return logits

    def explain(
        self, pixels: npt.NDArray[np.uint8], class_index: npt.NDArray[np.int64]
    ) -> tuple[Logits, Heatmap]:
        """See :class:`bundle.runtimes.Model`. A batch is divided between the streams."""
        with self._streams(self.streams) as (streams, _):
            requests = streams[: len(pixels)] if len(pixels) > 1 else [self._alone]
            _run_side_by_side(requests, pixels, class_index)
            logits, heatmaps = (
                np.concatenate([request.get_tensor(name).data for request in requests])
                for name in ("logits", "heatmap")
            )
            return logits, heatmaps

    @contextmanager
    def _streams(self, count: int) -> Iterator[tuple[list[Any], bool]]:
        """So many streams once they are free, and whether all were."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._free) >= count)
            all_free = len(self._free) == self.streams
            taken, self._free = self._free[:count], self._free[count:]
        try:
            yield taken, all_free
        finally:
            with self._changed:
                self._free = [*self._free, *taken]
                self._changed.notify_all()


def _run_side_by_side(
    requests: list[Any], pixels: npt.NDArray[np.uint8], class_index: npt.NDArray[np.int64]
) -> None:
    """Run each request on its part of a batch; a request that runs can't be used again, so all end before one fails."""
    if len(requests) == 1:  # in this thread: no other has to wake
        requests[0].infer({"pixels": pixels, "class_index": class_index}, share_inputs=True)
        return
    parts = zip(
        np.array_split(pixels, len(requests)), np.array_split(class_index, len(requests)), strict=True
    )
    with ExitStack() as waits:
        for request, (images, classes) in zip(requests, parts, strict=True):
            request.start_async({"pixels": images, "class_index": classes}, share_inputs=True)
            waits.callback(request.wait)
