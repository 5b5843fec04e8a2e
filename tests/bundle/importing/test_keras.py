"""Keras files and SavedModels: the imported bundle gives the logits of the network."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bundle.errors import RuntimeUnavailable
from bundle.format.manifest import read_manifest
from bundle.format.writer import BundleWriter
from bundle.worker.blocking import RuntimeProcess
from tests.bundle.importing.importing import LABELS, assert_refused, assert_serves, imported, run

SIZE = 32
FILES = {
    # file: (kind, options, whether it has heat maps)
    "softmax.keras": ("keras", [], True),
    "softmax.h5": ("keras_h5", [], True),
    "plain.keras": ("keras", ["--normalise", "-1..1"], True),
    "mobile.weights.h5": ("keras_h5", ["--arch", "mobilenet", "--size", "32"], False),
    "exported": ("savedmodel", ["--normalise", "0..255"], False),
    "fixed": ("savedmodel", [], False),
}


@pytest.mark.parametrize("file", FILES)
def test_the_bundle_serves_the_logits_of_the_network(
    file: str, keras_files: Path, tmp_path: Path
) -> None:
    kind, options, explains = FILES[file]

    bundle, manifest, _ = imported(
        keras_files / file, tmp_path / "models", "--labels", LABELS, *options
    )

    assert manifest.imported is not None
    assert manifest.imported.kind == kind
    assert (manifest.heatmap_size is not None) == explains
    assert_serves(bundle, keras_files / f"{file}.npy", SIZE)


REFUSED = {
    "lambda.keras": "Lambda",
    "lambda.h5": "Lambda",
    "sigmoid.keras": "sigmoid",
    "plain.keras": "--normalise imagenet",
    "unsafe": "WriteFile",
}


@pytest.mark.parametrize("file", REFUSED)
def test_unsafe_and_unclear_models_are_refused(
    file: str, keras_files: Path, tmp_path: Path
) -> None:
    models = tmp_path / "models"

    code, output = run(str(keras_files / file), "--models", str(models), "--labels", LABELS)

    assert_refused(models, code, output, REFUSED[file])
    assert not (keras_files / "written-by-the-model").exists()


def test_a_bundle_with_an_unsafe_model_is_refused_before_it_runs(
    keras_files: Path, keras_bundle_root: Path, tmp_path: Path
) -> None:
    good = keras_bundle_root / "tiny-keras" / "1"
    with BundleWriter(tmp_path, "unsafe", durable=False) as writer:
        shutil.copytree(good / "golden", writer.directory / "golden")
        shutil.copytree(keras_files / "unsafe", writer.directory / "saved_model")
        bundle = writer.commit(read_manifest(good))

    with (
        RuntimeProcess(bundle, device="cpu") as process,
        pytest.raises(RuntimeUnavailable, match="WriteFile"),
    ):
        process.start(120)

    assert not (keras_files / "written-by-the-model").exists()
