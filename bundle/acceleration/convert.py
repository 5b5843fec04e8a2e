"""Convert a source artifact to OpenVINO IR.

`python -m bundle.acceleration.convert FORMAT SOURCE HEIGHT WIDTH TARGET`; TARGET is the `.xml`, and
its `.bin` is written next to it. `bundle.acceleration.accelerate` starts it as a process of its
own, because it loads the framework of the model, and torch and tensorflow never share a process.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from bundle.runtimes.openvino import import_openvino
from bundle.runtimes.savedmodel import check_graph

# In the order of the model's; one without heat maps has the first of each alone.
INPUTS, OUTPUTS = ("pixels", "class_index"), ("logits", "heatmap")


def main(form: str, source: Path, size: tuple[int, int], target: Path) -> None:
    """Write the IR of a source artifact: from INPUTS to OUTPUTS.

    Args:
        form: `torchscript` or `savedmodel`.
        source: The file or folder of the artifact.
        size: Height and width of its input in pixels.
        target: The `.xml` to write.
    """
    ov = import_openvino()
    convert = _from_torchscript if form == "torchscript" else _from_savedmodel
    model = convert(ov, source, size)
    for ports, names in ((model.inputs, INPUTS), (model.outputs, OUTPUTS)):
        for port, name in zip(ports, names, strict=False):
            port.get_tensor().set_names({name})
    # fp32 weights: this file computes the same function as the source, and int8 is made from it.
    ov.save_model(model, target, compress_to_fp16=False)


def _from_torchscript(ov: Any, path: Path, size: tuple[int, int]) -> Any:
    import torch  # noqa: PLC0415 - heavy, and for this process only

    class Explain(torch.nn.Module):
        """`explain` as `forward`, the method that the converter reads."""

        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(
            self, pixels: torch.Tensor, class_index: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            result: tuple[torch.Tensor, torch.Tensor] = self.model.explain(pixels, class_index)
            return result

    with warnings.catch_warnings():
        # TorchScript is deprecated upstream (torch 2.9) but is the format of the source artifact.
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.(load|script)` is deprecated")
        # Weights may be stored in fp16.
        loaded = torch.jit.load(str(path)).eval().float()  # type: ignore[no-untyped-call]
        explains = hasattr(loaded, "explain")
        scripted = torch.jit.script(Explain(loaded).eval()) if explains else loaded
    _, *names = [value.debugName() for value in scripted.graph.inputs()]  # the first is the module
    inputs = [(name, *rest) for name, rest in zip(names, _inputs(ov, size), strict=explains)]
    return ov.convert_model(scripted, input=inputs)


def _from_savedmodel(ov: Any, path: Path, size: tuple[int, int]) -> Any:
    import tensorflow as tf  # noqa: PLC0415 - heavy, and for this process only
    from tensorflow.python.framework.convert_to_constants import (  # noqa: PLC0415
        convert_variables_to_constants_v2,
    )

    check_graph(path)
    loaded = tf.saved_model.load(str(path))
    explains = "explain" in loaded.signatures
    signature = loaded.signatures["explain" if explains else "serving_default"]

    def run(*inputs: Any) -> Any:
        found = signature(**dict(zip(INPUTS, inputs, strict=False)))
        return tuple(found[name] for name in OUTPUTS if name in found)

    specs = (
        tf.TensorSpec((None, *size, 3), tf.uint8, name="pixels"),
        tf.TensorSpec([None], tf.int64, name="class_index"),
    )
    # OpenVINO's reader of SavedModel folders does not find the variables of ours (2026.4); it can
    # read constants.
    concrete = tf.function(run).get_concrete_function(*specs[: 2 if explains else 1])
    frozen = convert_variables_to_constants_v2(concrete)
    with tempfile.NamedTemporaryFile(suffix=".pb") as file:
        file.write(frozen.graph.as_graph_def().SerializeToString())
        file.flush()
        return ov.convert_model(
            file.name,
            input=[
                (tensor.name, *rest)
                for tensor, rest in zip(frozen.inputs, _inputs(ov, size), strict=explains)
            ],
            output=[tensor.name for tensor in frozen.outputs],
        )


def _inputs(ov: Any, size: tuple[int, int]) -> list[tuple[Any, Any]]:
    """Shape and type of `pixels` and `class_index`; NNCF needs both. -1: any number of images."""
    pixels = ov.PartialShape([-1, *size, 3])
    return [(pixels, ov.Type.u8), (ov.PartialShape([-1]), ov.Type.i64)]


if __name__ == "__main__":
    _, form, source, height, width, target = sys.argv
    main(form, Path(source), (int(height), int(width)), Path(target))
