"""The command as a user runs it, and what the imported bundle serves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from bundle.cli import app
from bundle.format.manifest import Manifest, read_manifest
from bundle.worker.blocking import RuntimeProcess
from tests.bundle.importing.pixels import pixels

LABELS = "ant,bee,cat"


def run(*arguments: str) -> tuple[int, str]:
    """Exit code and output of `python -m bundle import`."""
    result = CliRunner().invoke(app, ["import", *arguments], env={"COLUMNS": "200"})
    return result.exit_code, result.output


def imported(file: Path, models: Path, *options: str) -> tuple[Path, Manifest, str]:
    """The folder of the imported bundle, its record, and what was printed."""
    code, output = run(str(file), "--models", str(models), "--name", "mine", *options)
    assert code == 0, output
    return models / "mine" / "1", read_manifest(models / "mine" / "1"), output


def assert_serves(bundle: Path, expected: Path, size: int) -> int | None:
    """The served logits of `pixels(size)` are those in `expected`, `explain` and `embed` included.

    Returns the number of elements of an embedding.
    """
    logits = np.load(expected)
    images = pixels(size)
    with RuntimeProcess(bundle, device="cpu") as process:
        process.start(120)
        found = process.infer(images, 60)
        np.testing.assert_allclose(found, logits, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(
            process.infer(images[1:2], 60), logits[1:2], rtol=1e-3, atol=1e-3
        )
        if process.info["heatmap"]:
            explained, heatmap = process.explain(images, np.array([0, 1, 2]), 60)
            np.testing.assert_allclose(explained, logits, rtol=1e-3, atol=1e-3)
            # The mean of the map of a class is its logit without the bias.
            assert heatmap.std() > 0
        if process.info["embedding"]:
            explained, embeddings = process.embed(images, 60)
            np.testing.assert_allclose(explained, logits, rtol=1e-3, atol=1e-3)
            assert (embeddings.std(axis=0) > 0).any()
        return process.info["embedding"]


def assert_refused(models: Path, code: int, output: str, *parts: str) -> None:
    """One sentence after the error's code, exit code 1, and nothing in the repository."""
    assert code == 1, output
    assert output.startswith("import_failed: ")
    assert output.count("\n") == 1
    assert "Traceback" not in output
    assert "Received: " in output
    for part in parts:
        assert part in output
    assert not models.exists()
