"""The measurement of artifacts, with processes whose output is known."""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt
import pytest

from bundle.acceleration.accelerate import Accelerated
from bundle.acceleration.measure import Acceleration, LabelledImages, Running, measure
from bundle.batches import in_batches
from bundle.errors import WorkerDied
from bundle.format.manifest import Artifact, Manifest
from bundle.worker.blocking import RuntimeProcess
from tests.bundles import colour_picture
from tests.tiny_networks import LABELS

IMAGES = np.stack([colour_picture(label, (32, 32), seed=5) for label in LABELS])
TIMEOUT_S = 120.0
SOURCE, HALF, INT8 = "torchscript-fp32", "torchscript-bf16", "openvino-int8"


class FakeProcess:
    """A process whose logit is `scale` for the image's number modulo 3, and with `error` on all.

    In batches of more than the golden images the last `wrong` have another best class.
    """

    def __init__(
        self, device: str, error: float = 0, wrong: int = 0, scale: float = 1, dies: bool = False
    ) -> None:
        self.info = {"device": device}
        self.batches: list[int] = []
        self._error, self._wrong, self._scale, self._dies = error, wrong, scale, dies

    def infer(self, pixels: npt.NDArray[np.uint8], _timeout_s: float) -> npt.NDArray[np.float32]:
        self.batches.append(len(pixels))
        if self._dies:
            raise WorkerDied("It is gone.")
        logits = np.eye(3, dtype=np.float32)[np.arange(len(pixels)) % 3] * self._scale + self._error
        if self._wrong and len(pixels) > len(IMAGES):
            logits[-self._wrong :] = logits[-self._wrong :, [1, 2, 0]]
        return logits

    def infer_all(self, pixels: npt.NDArray[np.uint8], timeout_s: float) -> npt.NDArray[np.float32]:
        return np.concatenate([self.infer(part, timeout_s) for part in in_batches(pixels)])


def named(manifest: Manifest, name: str) -> Artifact:
    artifact = manifest.artifact(name)
    assert artifact is not None
    return artifact


def running(artifact: Artifact, process: FakeProcess) -> Running:
    return Running(artifact, cast("RuntimeProcess", process))


def test_of_two_devices_the_worse_is_recorded_and_what_dies_is_left_out(
    accelerated: Accelerated,
) -> None:
    manifest = accelerated.manifest
    source, fp32, int8 = (named(manifest, name) for name in (SOURCE, "openvino-fp32", INT8))
    loaded = [
        running(source, FakeProcess("cpu")),
        running(fp32, FakeProcess("cpu", 0.1, wrong=6)),
        running(fp32, FakeProcess("cuda", 0.25, wrong=3)),
        running(int8, FakeProcess("cpu", dies=True)),
    ]
    test = LabelledImages(np.repeat(IMAGES, 10, axis=0), np.arange(30) % 3)
    options = Acceleration(test=test, turn_s=0, hardware=str.upper)
    left_out: list[str] = []

    records, metrics, _ = measure(loaded, manifest, IMAGES, options, left_out, lambda _: None)

    of_source, of_fp32 = records
    assert [speed["device"] for speed in of_source["speeds"]] == ["cpu"]
    assert [speed["hardware"] for speed in of_fp32["speeds"]] == ["CPU", "CUDA"]
    assert of_fp32["derivation"]["max_logit_difference"] == pytest.approx(1.25)
    assert of_fp32["derivation"]["top1_agreement"] == pytest.approx(24 / 30)
    found = {(metric["runtime"], metric["precision"]): metric["value"] for metric in metrics}
    assert found == {("torchscript", "fp32"): 1.0, ("openvino", "fp32"): pytest.approx(24 / 30)}
    assert left_out == ["openvino-int8 on a CPU: It is gone."]


def test_an_artifact_that_no_self_test_would_accept_is_left_out(accelerated: Accelerated) -> None:
    manifest = accelerated.manifest
    loaded = [
        running(manifest.source, FakeProcess("cpu")),
        running(named(manifest, INT8), FakeProcess("cpu", scale=-20)),
    ]
    options, left_out = Acceleration(turn_s=0), list[str]()

    records, *_ = measure(loaded, manifest, IMAGES, options, left_out, lambda _: None)

    assert [record["id"] for record in records] == [SOURCE]
    assert left_out[0].startswith("openvino-int8 on a CPU: A score of a golden image differs by")


def test_logits_that_are_known_are_not_computed_again(accelerated: Accelerated) -> None:
    manifest = accelerated.manifest
    process = FakeProcess("cpu")
    test = LabelledImages(np.repeat(IMAGES, 2, axis=0), np.arange(6) % 3)
    known = process.infer(test.pixels, 1)
    source = running(manifest.source, process)._replace(logits=known)

    _, metrics, _ = measure(
        [source], manifest, IMAGES, Acceleration(test=test, turn_s=0), [], lambda _: None
    )

    assert metrics[0]["value"] == 1.0
    assert process.batches.count(6) == 1


def test_a_bundle_without_a_baseline_gets_that_of_the_test_images(accelerated: Accelerated) -> None:
    manifest = accelerated.manifest
    assert manifest.baseline is not None
    test = LabelledImages(np.repeat(IMAGES, 2, axis=0), np.arange(6) % 3)
    options = Acceleration(test=test, turn_s=0)
    without = manifest.model_copy(update={"baseline": None})

    found = [
        measure([running(manifest.source, FakeProcess("cpu"))], each, IMAGES, options, [], print)
        for each in (manifest, without)
    ]

    assert found[0].baseline == manifest.baseline.model_dump()
    assert found[1].baseline is not None
    assert (found[1].baseline["split"], found[1].baseline["classes"]) == ("test", [2, 2, 2])
