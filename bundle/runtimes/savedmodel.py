"""SavedModel artifacts: the signatures `serving_default` and perhaps `explain` on TensorFlow."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bundle.errors import RuntimeUnavailable
from bundle.runtimes import Device, Outputs, describe, no_cuda
from bundle.runtimes.embeddings import tensorflow_dimension, tensorflow_function

# Of the saver, which loading does not call.
_SAVER_OPERATIONS = {"SaveV2", "RestoreV2", "MergeV2Checkpoints"}
# Operations that read or write files, run Python, start a graph hidden in a string, or open a
# connection, by their names: TensorFlow has no list of them. No network needs a dataset.
_UNSAFE = re.compile(
    r"Save|Restore|MergeV2Checkpoints|File|ImmutableConst|PyFunc|Dataset|Reader|Snapshot|Rpc"
    r"|SummaryWriter|SummaryDb|^Write|^Debug|^DumpTensor|^Remote|^InitializeTRT"
)
# Names of files as text, and nothing else.
_HARMLESS = {"ShardedFilename", "ShardedFilespec"}


def load(
    path: Path, device: Device, threads: int | None, _precision: str, _compiled: Path | None
) -> SavedModel:
    """Load the SavedModel folder at `path` and its signatures.

    Raises:
        RuntimeUnavailable: There is no CUDA device, a signature is missing, or see `check_graph`.
    """
    # The one heavy import, here so that this package never loads it in the web process.
    import tensorflow as tf  # noqa: PLC0415

    check_graph(path)
    if threads is not None:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    gpus = tf.config.list_physical_devices("GPU")
    if device == "cuda" and not gpus:
        raise no_cuda("TensorFlow")
    if device == "cpu":
        tf.config.set_visible_devices([], "GPU")
        gpus = []
    # Otherwise TensorFlow convolves in TF32, with the 10 bits of fp16.
    tf.config.experimental.enable_tensor_float_32_execution(enabled=False)
    for gpu in gpus:
        # Otherwise one process reserves all the memory of the device.
        tf.config.experimental.set_memory_growth(gpu, True)
    return SavedModel(tf, tf.saved_model.load(str(path)), "cuda" if gpus else "cpu")


def check_graph(path: Path) -> None:
    """Check that no function of a SavedModel can read or write files or run Python.

    The file is parsed and not loaded: loading runs initializers. Saving and restoring variables is
    left to the functions that only the saver calls.

    Raises:
        RuntimeUnavailable: One can, or the file can't be parsed.
    """
    # The parser of tf.saved_model.load, so that what is checked is what would be loaded.
    from tensorflow.python.saved_model.loader_impl import parse_saved_model  # noqa: PLC0415

    try:
        found = parse_saved_model(str(path))
    except OSError as exc:
        raise RuntimeUnavailable(
            "The SavedModel can't be read. Expected a complete folder with saved_model.pb. "
            f"Received: {describe(exc)}"
        ) from exc
    for graph in found.meta_graphs:
        if unsafe := _unsafe_operations(graph):
            raise RuntimeUnavailable(
                "The SavedModel has operations that read or write files, run Python or open "
                "connections, and it is not loaded. Export the network alone. "
                f"Received: {', '.join(sorted(unsafe))}"
            )


def _unsafe_operations(graph: Any) -> set[str]:
    """The unsafe operations of a MetaGraphDef, those of its saver aside."""
    functions = {each.signature.name: each.node_def for each in graph.graph_def.library.function}
    saver = graph.saver_def
    ends = {saver.filename_tensor_name, saver.save_tensor_name, saver.restore_op_name}
    saving = _ancestors(graph.graph_def.node, {_node_name(end) for end in ends})
    own = [node for node in graph.graph_def.node if node.name not in saving]
    of_saver = _called(functions, [n for n in graph.graph_def.node if n.name in saving])
    # Every other function may be called: by a signature, an object or an initializer.
    others = {name for name in functions if name not in of_saver}
    others |= _called(functions, own)
    others |= _called(functions, [node for name in others for node in functions[name]])
    checked = [*own, *(node for name in others for node in functions[name])]
    unsafe = {node.op for node in checked if _is_unsafe(node)}
    rest = [node for name in of_saver - others for node in functions[name]]
    rest += [node for node in graph.graph_def.node if node.name in saving]
    return unsafe | ({node.op for node in rest if _is_unsafe(node)} - _SAVER_OPERATIONS)


def _is_unsafe(node: Any) -> bool:
    if node.op == "PrintV2":  # may print into a file
        return bool(node.attr["output_stream"].s.startswith(b"file:"))
    return bool(_UNSAFE.search(node.op)) and node.op not in _HARMLESS


def _called(functions: dict[str, Any], nodes: Iterable[Any]) -> set[str]:
    """The functions that the nodes name in their attributes, and those that these call."""
    found: set[str] = set()
    pending = list(nodes)
    while pending:
        node = pending.pop()
        names = {node.op}
        for value in node.attr.values():
            names |= {value.func.name, *(each.name for each in value.list.func)}
        for name in (names & functions.keys()) - found:
            found.add(name)
            pending += functions[name]
    return found


def _ancestors(nodes: Iterable[Any], names: set[str]) -> set[str]:
    """The names of the nodes that those with `names` are computed from, and these."""
    by_name = {node.name: node for node in nodes}
    found: set[str] = set()
    pending = [name for name in names if name in by_name]
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending += [n for each in by_name[name].input if (n := _node_name(each)) in by_name]
    return found


def _node_name(tensor: str) -> str:
    """The node of `node:0` or of the control input `^node`."""
    return tensor.removeprefix("^").partition(":")[0]


class SavedModel:
    """A loaded SavedModel on one device."""

    runtime = "tensorflow"
    note = ""
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
        self._embed: Any = None  # made for the first request for embeddings
        self.embedding = tensorflow_dimension(self._serve)
        self.runtime_version = str(tf.__version__)
        self.device = device

    def run(
        self,
        pixels: npt.NDArray[np.uint8],
        class_index: npt.NDArray[np.int64] | None = None,
        *,
        embeddings: bool = False,
        on_stream: bool = False,  # noqa: ARG002 - there is one
    ) -> Outputs:
        """See `bundle.runtimes.Model`; both heat maps and embeddings take two passes."""
        images = self._tf.constant(pixels)
        logits = heatmaps = vectors = None
        if embeddings:
            self._embed = self._embed or tensorflow_function(self._serve)
            logits, vectors = (output.numpy() for output in self._embed(images))
        if class_index is not None:
            found = self._explain(pixels=images, class_index=self._tf.constant(class_index))
            logits, heatmaps = found["logits"].numpy(), found["heatmap"].numpy()
        if logits is None:
            logits = self._serve(pixels=images)["logits"].numpy()
        return Outputs(logits, heatmaps, vectors)
