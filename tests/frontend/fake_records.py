"""What the fake service says of its models and of itself."""

from __future__ import annotations

from typing import Any

LABELS = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
METRICS = """\
http_requests_total{method="POST",route="/predict",status="200"} 40
http_requests_total{method="POST",route="/predict",status="422"} 2
http_request_duration_seconds_bucket{method="POST",route="/predict",le="0.01"} 20
http_request_duration_seconds_bucket{method="POST",route="/predict",le="0.1"} 40
http_request_duration_seconds_bucket{method="POST",route="/predict",le="+Inf"} 42
resnet_queue_images{model="cifar10-resnet20-pytorch",version="1"} 3
resnet_queue_max_images{model="cifar10-resnet20-pytorch",version="1"} 64
resnet_worker_restarts_total{model="cifar10-resnet20-pytorch",version="1",reason="killed"} 1
"""


def card(name: str) -> dict[str, Any]:
    """The card of a model."""
    return {
        "name": name,
        "version": 1,
        "description": "ResNet-20 for photos of ten things, at 32 by 32 pixels.",
        "licence": "Apache-2.0",
        "limits": ["Trained on tiny pictures: photos from elsewhere do worse."],
        "data": {
            "trained_on": "49,000 images of CIFAR-10",
            "evaluated_on": ["its 10,000 test images"],
        },
        "evaluations": [
            {
                "split": "test",
                "samples": 10000,
                "artifact": "source",
                "accuracy": 0.8871,
                "interval_95": [0.8801, 0.8926],
                "per_class": [
                    {
                        "label": label,
                        "samples": 1000,
                        "correct": 850 + 10 * index,
                        "interval_95": [0.82 + index / 100, 0.88 + index / 100],
                    }
                    for index, label in enumerate(LABELS)
                ],
                "confusion": [
                    [true, predicted, 850 + 10 * true if true == predicted else 7]
                    for true in range(10)
                    for predicted in range(10)
                ],
                "reliability": [
                    {
                        "low": step / 10,
                        "high": (step + 1) / 10,
                        "samples": 100 + 80 * step,
                        "mean_score": step / 10 + 0.05,
                        "accuracy": step / 10 + 0.02,
                    }
                    for step in range(10)
                ],
                "calibration_error": 0.0084,
            }
        ],
        "artifacts": [
            {
                "id": "source",
                "precision": "fp32",
                "accuracy": 0.8871,
                "interval_95": [0.8801, 0.8926],
                "latency_ms": 3.4,
                "images_per_second": 900.0,
                "bytes": 1_100_000,
            },
            {
                "id": "openvino-int8",
                "precision": "int8",
                "accuracy": 0.8864,
                "interval_95": [0.88, 0.8925],
                "latency_ms": 0.86,
                "images_per_second": 4000.0,
                "bytes": 300_000,
            },
        ],
        "conformal": {
            "method": "lac",
            "samples": 10000,
            "sets": [
                {"coverage": coverage, "threshold": 0.5, "measured_coverage": coverage}
                for coverage in (0.5, 0.8, 0.9, 0.91, 0.99)
            ],
        },
        "comparisons": [
            {
                "model": f"cifar10-resnet20-{'keras' if name.endswith('pytorch') else 'pytorch'}",
                "samples": 10000,
                "agreement": 0.91,
                "right_when_disagree": [0.41, 0.43],
                "p_value": 0.31,
            }
        ],
    }
