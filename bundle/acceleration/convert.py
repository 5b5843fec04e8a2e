"""The child process that turns a source artifact into OpenVINO IR: ``python -m bundle.acceleration.convert BUNDLE TARGET``.

A process of its own, because it loads the framework of the model, and torch and tensorflow never share one
(:mod:`bundle.acceleration.accelerate` starts it). ``TARGET`` is the ``.xml`` to write; its ``.bin`` comes beside it.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from bundle.format.manifest import Manifest, read_manifest
from bundle.runtimes.openvino import import_openvino

NAMES = ("pixels", "class_index", "logits", "heatmap")  # of the inputs and the outputs, in order


def main(bundle: Path, target: Path) -> None:
    """Write the IR of the bundle's source artifact: ``pixels``, ``class_index`` to ``logits``, ``heatmap``."""
    ov = import_openvino()
    manifest = read_manifest(bundle)
    convert = _from_torchscript if manifest.source.format == "torchscript" else _from_savedmodel
    model = convert(ov, bundle / manifest.source.path, manifest)
    for port, name in zip((*model.inputs, *model.outputs), NAMES, strict=True):
        port.get_tensor().set_names({name})
    # fp32 weights: this file computes the same function as the source, and int8 is made from it.
    ov.save_model(model, target, compress_to_fp16=False)


def _from_torchscript(ov: Any, path: Path, manifest: Manifest) -> Any:
    import torch  # noqa: PLC0415 - heavy, and for this process only

    class Explain(torch.nn.Module):
        """The method ``explain`` as ``forward``, which is what the converter reads."""

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
    names = [value.debugName() for value in scripted.graph.inputs()][
        1:
    ]  # the first is the module itself
    shapes = _inputs(ov, manifest)
    return ov.convert_model(
        scripted, input=[(name, *what) for name, what in zip(names, shapes, strict=True)]
    )


def _from_savedmodel(ov: Any, path: Path, manifest: Manifest) -> Any:
    import tensorflow as tf  # noqa: PLC0415 - heavy, and for this process only
    from tensorflow.python.framework.convert_to_constants import (  # noqa: PLC0415
        convert_variables_to_constants_v2,
    )

    loaded = tf.saved_model.load(str(path))
    signature = loaded.signatures["explain"]

    def explain(pixels: Any, class_index: Any) -> Any:
        answer = signature(pixels=pixels, class_index=class_index)
        return answer["logits"], answer["heatmap"]

    # OpenVINO's reader of SavedModel folders does not find the variables of ours (2026.4); constants it reads.
    size = (None, manifest.input.height, manifest.input.width, 3)
    concrete = tf.function(explain).get_concrete_function(
        tf.TensorSpec(size, tf.uint8, name="pixels"),
        tf.TensorSpec([None], tf.int64, name="class_index"),
    )
    frozen = convert_variables_to_constants_v2(concrete)
    with tempfile.NamedTemporaryFile(suffix=".pb") as file:
        file.write(frozen.graph.as_graph_def().SerializeToString())
        file.flush()
        return ov.convert_model(
            file.name,
            input=[
                (tensor.name, *what)
                for tensor, what in zip(frozen.inputs, _inputs(ov, manifest), strict=True)
            ],
            output=[tensor.name for tensor in frozen.outputs],
        )


def _inputs(ov: Any, manifest: Manifest) -> list[tuple[Any, Any]]:
    """Shape and type of ``pixels`` and ``class_index``; NNCF needs both, and -1 is any number of images."""
    pixels = ov.PartialShape([-1, manifest.input.height, manifest.input.width, 3])
    return [(pixels, ov.Type.u8), (ov.PartialShape([-1]), ov.Type.i64)]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
