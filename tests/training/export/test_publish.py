"""Publish a network: which bundles are written, and what is published when a part fails."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from bundle.acceleration.measure import Acceleration, LabelledImages
from bundle.format.manifest import Manifest, read_manifest
from bundle.format.writer import BundleWriter
from tests.bundles import colour_picture, manifest_fields, png
from tests.tiny_networks import LABELS, tiny_logits
from training.backend import TrainerLike
from training.data.dataset import Split
from training.errors import TrainingError
from training.export.publish import NOT_ACCELERATED, Network, publish

CLASSES = np.arange(30) % len(LABELS)
PIXELS = np.stack([colour_picture(LABELS[c], (32, 32), seed=i) for i, c in enumerate(CLASSES)])


class TinyTrainer:
    """The network of `tests/bundles.py` as a trainer holds it."""

    def __init__(self, bundle: Path, error: float = 0) -> None:
        self._file, self._error = bundle / "model.pt", error

    def predict(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return tiny_logits(pixels) + np.float32(self._error)

    def export(self, directory: Path) -> None:
        shutil.copyfile(self._file, directory / "model.pt")


class Recorded:
    """Makes writers, and keeps the folders that they have written."""

    def __init__(self) -> None:
        self.written: list[Path] = []

    def __call__(self, root: Path, name: str, *, durable: bool = True) -> BundleWriter:
        written = self.written

        class Writer(BundleWriter):
            def commit(self, manifest: Mapping[str, Any] | Manifest) -> Path:
                written.append(super().commit(manifest))
                return written[-1]

        return Writer(root, name, durable=durable)


def network(torch_bundle_root: Path, error: float = 0) -> Network:
    record = manifest_fields("torch", LABELS, 32, [])
    record |= {"name": "tiny", "metrics": []}
    record["calibration"] = {"method": "none", "temperature": 1.0}
    trainer = TinyTrainer(torch_bundle_root / "tiny-torch" / "1", error)
    files = [Path(f"{number}.png") for number in range(len(PIXELS))]
    split = Split(PIXELS, CLASSES, files)
    golden = [(f"{label}.png", png(colour_picture(label))) for label in LABELS]
    return Network(cast("TrainerLike", trainer), record, golden, PIXELS[:10], (split, split))


def test_a_network_is_published_with_one_draft_through_which_everything_is_measured(
    torch_bundle_root: Path, tmp_path: Path
) -> None:
    writer, said = Recorded(), list[str]()
    options = Acceleration(
        test=LabelledImages(PIXELS, CLASSES), threads=1, devices=("cpu",), turn_s=0
    )

    done = publish(
        network(torch_bundle_root), tmp_path, options, progress=said.append, writer=writer
    )

    draft, version = writer.written
    manifest = read_manifest(version)
    assert version == done.path == tmp_path / "tiny" / "1"
    assert not draft.exists()
    assert {"torchscript-fp32", "openvino-fp32"} <= {each.id for each in manifest.artifacts}
    assert {(m.runtime, m.precision): m.value for m in manifest.metrics}[("openvino", "fp32")] == 1
    assert manifest.export.max_logit_difference == done.max_logit_difference < 1e-3
    assert manifest.export.samples == 10
    assert any("converting" in text for text in said)


def test_without_acceleration_a_draft_and_the_version_are_written_too(
    torch_bundle_root: Path, tmp_path: Path
) -> None:
    writer = Recorded()

    done = publish(network(torch_bundle_root), tmp_path, None, writer=writer)

    assert writer.written[1:] == [done.path]
    assert done.serving == NOT_ACCELERATED
    assert [each.id for each in read_manifest(done.path).artifacts] == ["torchscript-fp32"]


def test_a_network_whose_acceleration_fails_is_published_without_it(
    torch_bundle_root: Path, tmp_path: Path
) -> None:
    writer = Recorded()
    wrong_size = np.zeros((2, 7, 7, 3), np.uint8)
    options = Acceleration(calibration=wrong_size, threads=1, devices=("cpu",), turn_s=0)

    done = publish(network(torch_bundle_root), tmp_path, options, writer=writer)

    manifest = read_manifest(done.path)
    assert writer.written[1:] == [done.path]
    assert done.serving.startswith("the source artifact: The model can't be converted")
    assert [each.id for each in manifest.artifacts] == ["torchscript-fp32"]
    assert not [file for file in manifest.files if file.startswith("openvino")]
    assert [metric.value for metric in manifest.metrics] == [1.0]


def test_an_artifact_with_other_logits_than_the_network_is_not_published(
    torch_bundle_root: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=r"differ by 0\.1\. Expected less than 0\.001"):
        publish(network(torch_bundle_root, error=0.1), tmp_path, None)

    assert not (tmp_path / "tiny").exists()
