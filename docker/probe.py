"""The last build step of an image: uses what was left in it, and looks for what must not be there.

`probe.py TARGET` fails the build if too much was removed, or too little.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

FRAMEWORKS = {"torch", "tensorflow", "openvino"}
HAS = {
    "service": {"openvino"},
    "service-torch": {"openvino", "torch"},
    "service-tensorflow": {"openvino", "tensorflow"},
    "service-gpu": FRAMEWORKS,
    "frontend": set[str](),
    "training": FRAMEWORKS,
}
TOOLS = ("sh", "bash", "apt", "dpkg", "perl", "pip", "uv", "gcc", "pytest", "ruff", "mypy", "git")
PAGE = """
import altair, pandas, streamlit
table = pandas.DataFrame({"label": ["cat", "dog"], "score": [0.75, 0.25]})
streamlit.dataframe(table)
streamlit.table(table)
streamlit.bar_chart(table, x="label", y="score", horizontal=True)
streamlit.altair_chart(altair.Chart(table).mark_bar().encode(x="score", y="label"))
streamlit.data_editor(table)
"""


def main(target: str) -> None:
    """Run the probes of `target`."""
    warnings.simplefilter("ignore")
    for name in TOOLS:
        assert shutil.which(name) is None, f"{name} is in the image"
    found = {name for name in FRAMEWORKS if importlib.util.find_spec(name)}
    assert found == HAS[target], f"frameworks {found}"
    assert Path("sbom.cdx.json").stat().st_size > 1000
    if "openvino" in found:
        openvino_compiles()
    if "torch" in found:
        torch = importlib.import_module("torch")
        features = torch.nn.Conv2d(1, 2, 3)(torch.ones(1, 1, 3, 3)).flatten(1)
        torch.jit.script(torch.nn.Linear(2, 2))(features)
    if "tensorflow" in found:
        tensorflow = importlib.import_module("tensorflow")
        tensorflow.function(tensorflow.nn.softmax)(tensorflow.ones([2, 2]))
    if target == "frontend":
        page_renders()
        modules = ["opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http"]
    elif target == "training":
        modules = ["training.commands.train", "training.reports.page", "bundle.importing"]
    else:
        modules = ["service.server", "service.app", "grpc", "service.rpc", "model_signing"]
        modules += ["uvloop", "httptools", "simplejpeg", "pi_heif", "fastapi_offline"]
        modules += ["opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http"]
    for name in modules:
        importlib.import_module(name)


def openvino_compiles() -> None:
    """A small network is written as IR, read, compiled for the CPU and run."""
    numpy = importlib.import_module("numpy")
    openvino = importlib.import_module("bundle.runtimes.openvino").import_openvino()
    ops = importlib.import_module("openvino.opset13")
    pixels = ops.parameter([1, 8, 8, 3], numpy.uint8, name="pixels")
    planes = ops.transpose(ops.convert(pixels, "f32"), numpy.array([0, 3, 1, 2]))
    kernel = ops.constant(numpy.ones((4, 3, 3, 3), numpy.float32))
    features = ops.convolution(planes, kernel, [1, 1], [1, 1], [1, 1], [1, 1])
    logits = ops.reduce_mean(features, numpy.array([2, 3]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        openvino.save_model(openvino.Model([logits], [pixels]), path)
        compiled = openvino.Core().compile_model(path, "CPU")
        (result,) = compiled(numpy.ones((1, 8, 8, 3), numpy.uint8)).values()
    assert result.shape == (1, 4), result.shape
    # Inside 6x6 of 8x8 positions 27 values are summed; 4x6 edges have 18, 4 corners 12.
    assert abs(result[0, 0] - (36 * 27 + 24 * 18 + 4 * 12) / 64) < 0.1, result


def page_renders() -> None:
    """Streamlit converts tables and charts with pandas, pyarrow and altair."""
    testing = importlib.import_module("streamlit.testing.v1")
    page = testing.AppTest.from_string(PAGE).run(timeout=60)
    assert not page.exception, page.exception
    assert list(page.dataframe[0].value["label"]) == ["cat", "dog"]


if __name__ == "__main__":
    main(sys.argv[1])
