from __future__ import annotations

import json
from typing import Any

import pytest

from bundle.errors import RuntimeUnavailable
from bundle.format.manifest import Manifest, parse_manifest
from bundle.worker.selection import accuracy, candidates
from tests.bundles import manifest_fields
from tests.tiny_networks import LABELS


def derived(precision: str, images_per_second: float | None, difference: float) -> dict[str, Any]:
    """An artifact in OpenVINO, measured on the CPU; in half precision on CUDA see `half`."""
    return {
        "id": f"openvino-{precision}",
        "format": "openvino",
        "path": f"openvino/{precision}.xml",
        "precision": precision,
        "source": False,
        "derivation": {
            "versions": {},
            "calibration_samples": 0,
            "compared_samples": 1,
            "max_logit_difference": difference,
            "top1_agreement": 1.0,
            "golden_tolerance": 0.1,
        },
        "speeds": speeds(cpu=images_per_second),
    }


def half(precision: str, on_cuda: float, difference: float) -> dict[str, Any]:
    """The source in half precision, measured on both devices: slow on the CPU."""
    return derived(precision, None, difference) | {
        "id": f"torchscript-{precision}",
        "format": "torchscript",
        "path": "model.pt",
        "speeds": speeds(cpu=50.0, cuda=on_cuda),
    }


def speeds(**images_per_second: float | None) -> list[dict[str, Any]]:
    return [
        {
            "device": device,
            "hardware": "any",
            "threads": 1,
            "latency_ms": 1.0,
            "batch_size": 8,
            "images_per_second": found,
        }
        for device, found in images_per_second.items()
        if found is not None
    ]


def manifest(
    *artifacts: dict[str, Any],
    source_speed: float | None = 100.0,
    on_cuda: float | None = None,
    **accuracies: float,
) -> Manifest:
    golden = [{"file": "golden/blue.png", "top": [{"index": 0, "label": "blue", "score": 0.5}]}]
    fields = manifest_fields("torch", LABELS, 32, golden)
    fields["artifacts"][0]["speeds"] = speeds(cpu=source_speed, cuda=on_cuda)
    fields["artifacts"] += artifacts
    fields["metrics"] = [
        {
            "name": "accuracy",
            "value": value,
            "split": "test",
            "samples": 1000,
            "labels": None,
            "interval_95": [0.0, 1.0],
            "runtime": "torchscript"
            if name in ("source", "half_bf16", "half_fp16")
            else "openvino",
            "precision": "fp32" if name == "source" else name.removeprefix("half_"),
        }
        for name, value in accuracies.items()
    ]
    paths = ["golden/blue.png", *(a["path"] for a in fields["artifacts"])]
    files = {path: {"size": 1, "sha256": "0" * 64} for path in paths}
    start = {"schema_version": 6, "name": "tiny", "version": 1, "created": "2026-01-01T00:00:00Z"}
    return parse_manifest(json.dumps(start | fields | {"files": files}).encode())


def ids(record: Manifest, wanted: str = "auto", *, cuda: bool = False) -> list[str]:
    return [candidate.artifact.id for candidate in candidates(record, wanted, cuda=cuda)]


FP32, BF16, INT8 = derived("fp32", 150, 1e-5), derived("bf16", 300, 0.2), derived("int8", 500, 5.0)
SOURCE = "torchscript-fp32"


def test_auto_takes_the_fastest_within_half_a_point_and_the_source_comes_last() -> None:
    good = manifest(FP32, BF16, INT8, source=0.9, fp32=0.9, bf16=0.899, int8=0.895)
    worse = manifest(FP32, BF16, INT8, source=0.9, fp32=0.9, bf16=0.899, int8=0.8949)

    assert ids(good) == ["openvino-int8", "openvino-bf16", "openvino-fp32", SOURCE]
    assert ids(worse) == ["openvino-bf16", "openvino-fp32", SOURCE]
    reason = candidates(good, "auto", cuda=False)[0].reason
    assert (
        reason
        == "measured 5.0 times as fast as the source, with an accuracy of 89.50% against 90.00%"
    )


def test_without_a_measured_accuracy_only_the_same_function_is_taken() -> None:
    assert ids(manifest(FP32, BF16, INT8)) == ["openvino-fp32", SOURCE]


def test_what_is_not_measured_to_be_faster_is_not_taken() -> None:
    slow, unknown = derived("fp32", 99, 0.0), derived("fp32", None, 0.0)

    assert ids(manifest(slow)) == ids(manifest(unknown)) == ids(manifest()) == [SOURCE]
    assert ids(manifest(FP32, source_speed=None)) == [SOURCE]
    assert (
        "none that was measured to be faster"
        in candidates(manifest(slow), "auto", cuda=False)[0].reason
    )
    assert (
        "openvino-int8 is faster and not known"
        in candidates(manifest(INT8), "auto", cuda=False)[0].reason
    )


def test_on_cuda_only_what_was_measured_on_cuda_counts() -> None:
    fp16, bf16 = half("fp16", 3000, 0.01), half("bf16", 2500, 0.3)
    good = manifest(
        INT8, fp16, bf16, on_cuda=1000, source=0.9, int8=0.9, half_fp16=0.9, half_bf16=0.899
    )
    worse = manifest(
        INT8, fp16, bf16, on_cuda=1000, source=0.9, int8=0.9, half_fp16=0.894, half_bf16=0.899
    )

    assert ids(good, cuda=True) == ["torchscript-fp16", "torchscript-bf16", SOURCE]
    assert ids(worse, cuda=True) == ["torchscript-bf16", SOURCE]
    assert ids(good) == ["openvino-int8", SOURCE]
    assert candidates(good, "auto", cuda=True)[0].reason.startswith(
        "measured 3.0 times as fast as the source"
    )
    assert ids(manifest(FP32, INT8, source=0.9, int8=0.9), cuda=True) == [SOURCE]
    assert "faster on a CUDA device" in candidates(manifest(FP32), "auto", cuda=True)[0].reason


def test_a_setting_forces_one() -> None:
    assert ids(manifest(FP32, INT8), "source") == [SOURCE]
    assert ids(manifest(FP32, INT8), "openvino-int8", cuda=True) == ["openvino-int8"]
    with pytest.raises(
        RuntimeUnavailable, match=r"It has: torchscript-fp32, openvino-fp32\. Received: 'gpu'"
    ):
        candidates(manifest(FP32), "gpu", cuda=False)


def test_the_accuracy_of_an_artifact_is_that_of_its_runtime_and_precision() -> None:
    record = manifest(BF16, source=0.9, bf16=0.89)

    assert [accuracy(record, artifact) for artifact in record.artifacts] == [0.9, 0.89]
    assert accuracy(manifest(BF16), record.artifacts[1]) is None
