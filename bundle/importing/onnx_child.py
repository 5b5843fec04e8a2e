"""ONNX to OpenVINO IR: `python -m bundle.importing.onnx_child REQUEST`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bundle.errors import ImportFailed
from bundle.importing.child import (
    TINY,
    Findings,
    Floats,
    normalised,
    sample_pixels,
    serve_request,
    set_input,
    set_logits,
    set_normalisation,
)
from bundle.importing.options import Options
from bundle.normalisation import Normalisation
from bundle.runtimes.openvino import import_openvino

# Not `openvino/`: that folder has what is derived from a source.
FILE = "model/fp32.xml"
ARTIFACT = {
    "id": "openvino-fp32",
    "format": "openvino",
    "path": FILE,
    "precision": "fp32",
    "source": True,
    "derivation": None,
    "speeds": [],
}
USUAL: dict[str, Any] = {"size": 224, "resize": 256, "interpolation": "bilinear"}


def read(_kind: str, path: Path, options: Options, target: Path) -> Findings:
    """Read an ONNX file and write `model/fp32.xml` into `target`."""
    ov = import_openvino()
    findings = Findings(ARTIFACT, {"name": "onnx", "versions": {"openvino": ov.get_version()}})
    core = ov.Core()
    model = core.read_model(path)
    shape, layout = _input(model, options, findings)
    raw = model.inputs[0].element_type == ov.Type.u8
    if raw:
        findings.changeable = False
        options = replace(options, normalise="0..255")
        findings.notes.append("the model scales pixels itself")
    # Networks with the colours last come from TensorFlow, where nothing is usual.
    usual = ("imagenet", "as of nearly all networks of PyTorch") if layout == "NCHW" else None
    how = set_normalisation(findings, options, usual)
    height, width = shape[2:] if layout == "NCHW" else shape[1:3]
    stated = (height, width) if height and width else None
    geometry = set_input(findings, options, stated, USUAL)
    dims = [3, geometry.height, geometry.width]
    if layout == "NHWC":
        dims = [*dims[1:], 3]
    x = normalised(sample_pixels(geometry), how, layout)
    if raw:
        x = x.astype(np.uint8)
    # A batch of one is usually the example of the export, and the graph takes any.
    batch = 0
    model.reshape([shape[0] or 1, *dims])
    alone = _run(core, model, shape[0] or 1)(x)
    try:
        # Another number of images must give what they give one by one.
        other = (shape[0] or 1) + 1
        model.reshape([other, *dims])
        together = _run(core, model, other)(x)
        if not np.allclose(alone, together, rtol=1e-3, atol=1e-4):
            raise RuntimeError
    except RuntimeError:
        batch = shape[0] or 1
        findings.notes.append("the graph takes a fixed number of images, so they run one by one")
    set_logits(findings, options, alone, target)
    model.reshape([batch or -1, *dims])
    served = _served(ov, model, how, layout, findings, batch)
    (target / FILE).parent.mkdir()
    ov.save_model(served, target / FILE, compress_to_fp16=False)
    return findings


def _input(model: Any, options: Options, findings: Findings) -> tuple[list[int | None], str]:
    """Shape and layout of the only input, an image.

    Raises:
        ImportFailed: There are other inputs, or it is none of colour images.
    """
    found = {each.any_name: str(each.partial_shape) for each in model.inputs}
    rank = model.inputs[0].partial_shape.rank if model.inputs else None
    if len(found) != 1 or rank is None or rank.is_dynamic or rank.get_length() != 4:
        raise ImportFailed(
            "The graph does not take one batch of images. Expected one input of four dimensions, "
            f"[N, 3, height, width]. Received: {found}"
        )
    shape = [
        None if side.is_dynamic else side.get_length() for side in model.inputs[0].partial_shape
    ]
    layouts = [each for each, channels in (("NCHW", shape[1]), ("NHWC", shape[3])) if channels == 3]
    if not layouts and None not in (shape[1], shape[3]):
        raise ImportFailed(
            "The graph does not take colour images. Expected [N, 3, height, width] or [N, height, "
            f"width, 3]. Received: {found}"
        )
    if not options.layout and len(layouts) != 1:
        findings.assumed.append("layout NCHW, as of nearly all ONNX files (--layout)")
    return shape, options.layout or (layouts[0] if len(layouts) == 1 else "NCHW")


def _run(core: Any, model: Any, batch: int) -> Callable[[Floats], Floats]:
    """The graph as it is, for any number of images: in batches, each filled up with its last."""
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = [port.get_names() for port in compiled.outputs]
    pick = next((i for i, found in enumerate(names) if "logits" in found), 0)

    def run(x: Floats) -> Floats:
        rows = []
        for start in range(0, len(x), batch):
            part = x[start : start + batch]
            filled = np.concatenate([part, np.repeat(part[-1:], batch - len(part), 0)])
            rows.append(compiled(filled)[pick][: len(part)])
        return np.concatenate(rows)

    return run


def _served(
    ov: Any, model: Any, how: Normalisation, layout: str, findings: Findings, batch: int
) -> Any:
    """The graph from `pixels` to `logits`; `batch`: the only number of images, or 0."""
    ops = ov.opset13
    size = [findings.input["height"], findings.input["width"]]
    pixels = ops.parameter([-1, *size, 3], ov.Type.u8, name="pixels")
    element = model.inputs[0].element_type
    x = ops.convert(pixels, "f32")
    if how.order == "BGR":
        x = ops.gather(x, np.array([2, 1, 0]), np.array(3))
    mean, std = (np.array(v, np.float32) for v in (how.mean, how.std))
    x = ops.divide(ops.subtract(x, mean), std)
    if layout == "NCHW":
        x = ops.transpose(x, np.array([0, 3, 1, 2]))
    if element != ov.Type.f32:
        x = ops.convert(x, element.get_type_name())
    names = [port.get_names() for port in model.outputs]
    pick = next((i for i, found in enumerate(names) if "logits" in found), 0)
    if batch:
        y = _one_by_one(ov, model, x, batch, pick)
    else:
        model.inputs[0].get_node().output(0).replace(x.output(0))
        y = model.outputs[pick].get_node().input_value(0)
    y = ops.convert(y, "f32")
    if findings.outputs == "probabilities":
        y = ops.log(ops.maximum(y, TINY))
    pixels.output(0).get_tensor().set_names({"pixels"})
    result = ops.result(y)
    served = ov.Model([result], [pixels], "imported")
    served.outputs[0].get_tensor().set_names({"logits"})
    served.validate_nodes_and_infer_types()
    return served


def _one_by_one(ov: Any, model: Any, x: Any, batch: int, pick: int) -> Any:
    """Rows of the graph for each image of `x`, repeated to the number that the graph takes."""
    ops = ov.opset13
    dims = [side.get_length() for side in model.inputs[0].partial_shape][1:]
    row = ops.parameter([1, *dims], model.inputs[0].element_type)
    several = ops.tile(row, np.array([batch, 1, 1, 1]))
    model.inputs[0].get_node().output(0).replace(several.output(0))
    output = model.outputs[pick].get_node().input_value(0)
    first = ops.slice(output, np.array([0]), np.array([1]), np.array([1]), np.array([0]))
    result = ops.result(first)
    body = ov.Model([result], [row], "image")
    loop = ops.tensor_iterator()
    loop.set_body(body)
    loop.set_sliced_input(row, x.output(0), 0, 1, 1, -1, 0)
    return loop.get_concatenated_slices(result.output(0), 0, 1, 1, -1, 0)


if __name__ == "__main__":
    serve_request(read)
