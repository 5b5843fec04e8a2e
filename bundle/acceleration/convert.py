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

NAMES = ("pixels", "class_index", "logits", "heatmap")  # of the inputs and the outputs, in order


def main(form: str, source: Path, size: tuple[int, int], target: Path) -> None:
    """Write the IR of a source artifact: `pixels`, `class_index` to `logits`, `heatmap`.

    Args:
        form: `torchscript` or `savedmodel`.
        source: The file or folder of the artifact.
        size: Height and width of its input in pixels.
        target: The `.xml` to write.
    """
    ov = import_openvino()
    convert = _from_torchscript if form == "torchscript" else _from_savedmodel
    model = convert(ov, source, size)
    for port, name in zip((*model.inputs, *model.outputs), NAMES, strict=True):
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
        scripted = torch.jit.script(Explain(torch.jit.load(str(path)).eval()).eval())  # type: ignore[no-untyped-call]
    _, *names = [value.debugName() for value in scripted.graph.inputs()]  # the first is the module
    inputs = [(name, *rest) for name, rest in zip(names, _inputs(ov, size), strict=True)]
    return ov.convert_model(scripted, input=inputs)


def _from_savedmodel(ov: Any, path: Path, size: tuple[int, int]) -> Any:
    import tensorflow as tf  # noqa: PLC0415 - heavy, and for this process only
    from tensorflow.python.framework.convert_to_constants import (  # noqa: PLC0415
        convert_variables_to_constants_v2,
    )

    loaded = tf.saved_model.load(str(path))
    signature = loaded.signatures["explain"]

    def explain(pixels: Any, class_index: Any) -> Any:
        output = signature(pixels=pixels, class_index=class_index)
        return output["logits"], output["heatmap"]

    # OpenVINO's reader of SavedModel folders does not find the variables of ours (2026.4); it can
    # read constants.
    concrete = tf.function(explain).get_concrete_function(
        tf.TensorSpec((None, *size, 3), tf.uint8, name="pixels"),
        tf.TensorSpec([None], tf.int64, name="class_index"),
    )
    frozen = convert_variables_to_constants_v2(concrete)
    with tempfile.NamedTemporaryFile(suffix=".pb") as file:
        file.write(frozen.graph.as_graph_def().SerializeToString())
        file.flush()
        return ov.convert_model(
            file.name,
            input=[
                (tensor.name, *rest)
                for tensor, rest in zip(frozen.inputs, _inputs(ov, size), strict=True)
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
