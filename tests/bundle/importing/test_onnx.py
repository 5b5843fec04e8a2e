"""ONNX files: the imported bundle gives the logits of the network, in OpenVINO."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bundle.importing.importing import LABELS, assert_serves, imported
from tests.bundle.importing.onnx_files import SIZE, write_onnx


@pytest.mark.parametrize("images", [None, 1, 2], ids=["any", "one", "two"])
def test_the_bundle_serves_the_logits_of_the_network(images: int | None, tmp_path: Path) -> None:
    file = tmp_path / "network"
    write_onnx(file, images=images)

    bundle, manifest, output = imported(file, tmp_path / "models", "--labels", LABELS)

    assert manifest.framework.name == "onnx"
    assert manifest.source.path == "model/fp32.xml"
    assert ("one by one" in output) == (images is not None)
    assert_serves(bundle, tmp_path / "network.npy", SIZE)
