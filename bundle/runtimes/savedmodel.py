"""SavedModel artifacts: the signatures `serving_default` and perhaps `explain` on TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bundle.errors import RuntimeUnavailable
from bundle.runtimes import Device, Heatmap, Logits, no_cuda


def load(
    path: Path, device: Device, threads: int | None, _precision: str, _compiled: Path | None
) -> SavedModel:
    """Load the SavedModel folder at `path` and its signatures."""
    # The one heavy import, here so that this package never loads it in the web process.
    import tensorflow as tf  # noqa: PLC0415

    if threads is not None:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    gpus = tf.config.list_physical_devices("GPU")
    if device == "cuda" and not gpus:
        raise no_cuda("TensorFlow")
    if device == "cpu":
        tf.config.set_visible_devices([], "GPU")
        gpus = []
    for gpu in gpus:
        # Otherwise one process reserves all the memory of the device.
        tf.config.experimental.set_memory_growth(gpu, True)
    return SavedModel(tf, tf.saved_model.load(str(path)), "cuda" if gpus else "cpu")


class SavedModel:
    """A loaded SavedModel on one device."""

    runtime = "tensorflow"
    streams = 1

    def __init__(self, tf: Any, loaded: Any, device: str) -> None:
        if "serving_default" not in loaded.signatures:
            raise RuntimeUnavailable(
                "The SavedModel lacks a signature. Export 'serving_default', and 'explain' for "
                f"heat maps. Received: {sorted(loaded.signatures)}"
            )
        self._tf = tf
        self._loaded = loaded  # the signatures have only weak references to their variables
        self._serve = loaded.signatures["serving_default"]
        self._explain = loaded.signatures.get("explain")
        self.runtime_version = str(tf.__version__)
        self.device = device

    def infer(self, pixels: npt.NDArray[np.uint8]) -> Logits:
        """See `bundle.runtimes.Model`."""
        output = self._serve(pixels=self._tf.constant(pixels))
        logits: Logits = output["logits"].numpy()
        return logits

    def infer_on_stream(self, pixels: npt.NDArray[np.uint8]) -> Logits:
        """See `bundle.runtimes.Model`."""
        return self.infer(pixels)

    def explain(
        self, pixels: npt.NDArray[np.uint8], class_index: npt.NDArray[np.int64]
    ) -> tuple[Logits, Heatmap]:
        """See `bundle.runtimes.Model`."""
        output = self._explain(
            pixels=self._tf.constant(pixels), class_index=self._tf.constant(class_index)
        )
        return output["logits"].numpy(), output["heatmap"].numpy()
