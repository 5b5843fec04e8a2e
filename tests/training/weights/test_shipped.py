"""Which bundle `fit` takes the ImageNet weights from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from training.weights.shipped import MODELS, SHIPPED, shipped_weights


def copied(repository: Path, version: int, **changes: object) -> Path:
    """The manifest of the shipped bundle as another version, with other fields."""
    source = MODELS / SHIPPED / "1" / "manifest.json"
    bundle = repository / SHIPPED / str(version)
    bundle.mkdir(parents=True)
    record = json.loads(source.read_text()) | {"version": version} | changes
    (bundle / "manifest.json").write_text(json.dumps(record))
    return bundle


def test_a_repository_without_the_model_leaves_that_of_the_project(tmp_path: Path) -> None:
    assert shipped_weights("resnet50", tmp_path / "none") == MODELS / SHIPPED / "1"
    assert shipped_weights("resnet18", tmp_path / "none") is None


def test_the_newest_version_in_the_repository_that_both_frameworks_can_start_from_wins(
    tmp_path: Path,
) -> None:
    first, second = copied(tmp_path, 1), copied(tmp_path, 2)
    record = json.loads((second / "manifest.json").read_text())
    copied(tmp_path, 3, architecture=record["architecture"] | {"name": "resnet50-v1.5"})
    copied(tmp_path, 4, framework=record["framework"] | {"name": "tensorflow"})
    (copied(tmp_path, 5) / "manifest.json").write_text("{")

    assert shipped_weights("resnet50", tmp_path) == second
    shutil.rmtree(second)
    assert shipped_weights("resnet50", tmp_path) == first
