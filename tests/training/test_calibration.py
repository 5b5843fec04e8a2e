from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from training.calibration import fit_temperature, reliability


def overconfident(samples: int = 20_000, temperature: float = 2.5) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from softmax(true logits), and those logits multiplied by `temperature`."""
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 1.5, (samples, 5))
    cumulated = softmax(logits, axis=1).cumsum(1)
    labels = (generator.random((samples, 1)) > cumulated).sum(1).astype(np.int64)
    return (logits * temperature).astype(np.float32), labels


def test_the_temperature_that_made_logits_overconfident_is_found() -> None:
    logits, labels = overconfident(temperature=2.5)

    assert fit_temperature(logits, labels) == pytest.approx(2.5, rel=0.03)


def test_scaling_by_the_fitted_temperature_lowers_the_calibration_error() -> None:
    logits, labels = overconfident()

    scaled = logits / fit_temperature(logits, labels)
    before, after = (
        reliability(softmax(each, axis=1), labels)["expected_calibration_error"] for each in (logits, scaled)
    )

    assert before > 0.15
    assert after < 0.02


def test_the_calibration_error_of_two_bins_counted_by_hand() -> None:
    # At confidence 0.9 one of two is right, at 0.6 both are: (2 · |0.9 - 0.5| + 2 · |0.6 - 1|) / 4.
    scores = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])

    measured = reliability(scores, np.array([0, 1, 0, 0]))

    assert measured["expected_calibration_error"] == pytest.approx(0.4)
    filled = [row for row in measured["bins"] if row["samples"]]
    assert [(row["samples"], row["accuracy"]) for row in filled] == [(2, 1.0), (2, 0.5)]
    assert [row["confidence"] for row in filled] == pytest.approx([0.6, 0.9])
    assert measured["bins"][0]["confidence"] is None


def test_a_split_without_an_error_gives_a_finite_temperature() -> None:
    logits = np.eye(3, dtype=np.float32) * 10

    assert 0.05 <= fit_temperature(logits, np.arange(3)) <= 20
