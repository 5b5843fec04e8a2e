from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from training.calibration import expected_calibration_errors, fit_temperature


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
    before, after = expected_calibration_errors([softmax(logits, axis=1), softmax(scaled, axis=1)], labels)

    assert before > 0.15
    assert after < 0.02


def test_the_calibration_error_of_a_known_case() -> None:
    # Four answers at confidence 0.9, of which two are right: |0.9 - 0.5|.
    scores = np.full((4, 2), [0.9, 0.1], np.float32)

    assert expected_calibration_errors([scores], np.array([0, 0, 1, 1])) == pytest.approx([0.4], abs=1e-6)


def test_a_split_without_an_error_gives_a_finite_temperature() -> None:
    logits = np.eye(3, dtype=np.float32) * 10

    assert 0.05 <= fit_temperature(logits, np.arange(3)) <= 20
