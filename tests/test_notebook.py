"""docs/tour.ipynb: committed without outputs, and run from top to bottom on drawn shapes."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "docs/tour.ipynb"
MODELS = {"cifar10-resnet20-pytorch", "cifar10-resnet20-keras"}
SAMPLES = {"airplane", "automobile", "cat", "frog", "ship", "truck"}
# Deadlines that only a hang exceeds, also on busy cores.
START_TIMEOUT_S, CELL_TIMEOUT_S = 240, 500


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """The notebook's working and temporary folders; short paths, because of its sockets."""
    with tempfile.TemporaryDirectory() as root:
        for name in ("cwd", "tmp", "jupyter"):
            (Path(root) / name).mkdir()
        yield Path(root)


@pytest.fixture(scope="module")
def executed(folder: Path) -> Any:
    """The notebook with its outputs; its kernel talks through sockets on disk, not ports."""
    variables = {
        "IPYTHONDIR": str(folder / "jupyter"),
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(folder / "tmp"),
        "TOUR_DATA": "drawn",
    }
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("SERVICE_")
    }
    notebook = read()
    kernel = AsyncKernelManager(
        # With no folders to search, the only kernel is the ipykernel of this interpreter.
        kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
        transport="ipc",
        connection_file=str(folder / "jupyter/kernel.json"),
    )
    client = NotebookClient(
        notebook,
        kernel,
        startup_timeout=START_TIMEOUT_S,
        timeout=CELL_TIMEOUT_S,
        resources={"metadata": {"path": str(folder / "cwd")}},
    )
    client.execute(cleanup_kc=True, env=inherited | variables)
    return notebook


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def figures(notebook: Any) -> dict[str, Any]:
    """The JSON that the last cell prints."""
    result: dict[str, Any] = json.loads(outputs(notebook)[-1].text)
    return result


def test_the_notebook_is_committed_without_outputs() -> None:
    notebook = read()

    nbformat.validate(notebook)
    assert outputs(notebook) == []
    assert [cell for cell in notebook.cells if cell.get("execution_count")] == []
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.language_info == {"name": "python"}, (
        "no version: it would change by itself"
    )


def test_the_links_of_the_notebook_have_targets() -> None:
    text = "\n".join(cell.source for cell in read().cells if cell.cell_type == "markdown")

    links = re.findall(r"\]\(([^)#]+)(?:#([^)]+))?\)", text)
    assert links
    for name, anchor in links:
        titles = re.findall(r"^#+ (.+)$", (NOTEBOOK.parent / name).read_text(), re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
        assert not anchor or anchor in anchors


def test_the_kernel_is_of_this_interpreter_whatever_else_is_installed() -> None:
    spec = KernelSpecManager(kernel_dirs=[]).get_kernel_spec("python3")

    assert spec.argv[:3] == [sys.executable, "-m", "ipykernel_launcher"]


def test_the_tour_trains_and_transfer_beats_scratch(executed: Any) -> None:
    found = figures(executed)

    assert found["data"] == "drawn"
    assert found["first"] > 0.75
    assert found["others"]["transferred"] > 0.5
    assert found["others"]["transferred"] > found["others"]["scratch"]


def test_the_shipped_models_classify_every_sample(executed: Any) -> None:
    best = figures(executed)["best"]

    assert set(best) == MODELS
    for model in MODELS:
        assert set(best[model]) == SAMPLES
        assert sum(sample == label for sample, label in best[model].items()) >= 4


def test_each_figure_is_an_image_and_stderr_is_empty(executed: Any) -> None:
    found = outputs(executed)

    images = [output.data["image/png"] for output in found if "image/png" in output.get("data", {})]
    assert len(images) == 6
    for encoded in images:
        with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
            assert image.width > 700
            assert np.asarray(image.convert("L")).std() > 5
    assert [output.text for output in found if output.get("name") == "stderr"] == []


def test_nothing_is_left_behind(executed: Any, folder: Path) -> None:
    assert executed.cells
    assert [*(folder / "cwd").iterdir(), *(folder / "tmp").glob("tour-*")] == []
