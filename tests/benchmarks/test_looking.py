"""The heat maps of the shipped ResNet-50 show where the object is: its golden photos in corners."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.looking import alike, located
from bundle.format.manifest import read_manifest
from bundle.runtimes import load_model
from tests.sources import ROOT

BUNDLE = ROOT / "models" / "imagenet-resnet50" / "1"
SEEDS = 8


def test_the_maximum_is_at_the_object_in_nine_of_ten_right_answers(tmp_path: Path) -> None:
    manifest = read_manifest(BUNDLE)
    assert manifest.label_ids is not None
    for sample in manifest.golden.samples:
        name = f"{manifest.label_ids[sample.top[0].index]}_{Path(sample.file).name}"
        shutil.copy(BUNDLE / sample.file, tmp_path / name)
    artifact = manifest.artifact("openvino-int8")
    assert artifact is not None
    model = load_model(BUNDLE, artifact, "cpu", 2)

    found = [located(model, manifest, tmp_path, seed) for seed in range(SEEDS)]
    same = alike(model, manifest, tmp_path)

    photos, right, inside = (
        sum(each[name] for each in found) for name in ("photos", "right", "maximum_in_the_quarter")
    )
    assert photos == SEEDS * len(manifest.golden.samples)
    assert right > photos / 3, "enough to say something"
    assert inside >= 0.9 * right
    assert same["own_copy_is_nearest"] == len(manifest.golden.samples)
