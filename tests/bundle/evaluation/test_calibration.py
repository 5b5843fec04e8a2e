from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax

from bundle.evaluation.calibration import calibrate, fit_temperature, reliability

Labelled = tuple[NDArray[np.float32], NDArray[np.int64]]


def overconfident(samples: int = 20_000, temperature: float = 2.5) -> Labelled:
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

    temperature = fit_temperature(logits, labels)
    assert temperature is not None
    scaled = logits / temperature
    before, after = (
        reliability(softmax(each, axis=1), labels)["expected_calibration_error"]
        for each in (logits, scaled)
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


def test_fewer_than_twenty_images_give_no_temperature() -> None:
    logits, labels = overconfident()

    assert fit_temperature(logits[:19], labels[:19]) is None
    assert fit_temperature(logits[:20], labels[:20]) is not None


@pytest.mark.parametrize("scale", [1e-3, 0.1, 1, 10, 1000])
@pytest.mark.parametrize("label", [0, 1], ids=["all right", "all wrong"])
def test_a_split_whose_best_temperature_is_a_bound_of_the_search_gives_none(
    scale: float, label: int
) -> None:
    logits = np.tile(np.array([1, 0, 0], np.float32) * scale, (30, 1))

    assert fit_temperature(logits, np.full(30, label)) is None


def test_logits_that_say_nothing_give_no_temperature() -> None:
    assert fit_temperature(np.zeros((30, 3), np.float32), np.arange(30) % 3) is None


def test_a_temperature_that_lowers_the_calibration_error_is_recorded() -> None:
    validation, test = overconfident(200), overconfident()

    calibration, reason = calibrate(validation, test)

    assert reason is None
    assert (calibration["method"], calibration["samples"]) == ("temperature", 200)
    before, after = (
        calibration[f"expected_calibration_error_{when}"] for when in ("before", "after")
    )
    assert after < before


def test_a_temperature_that_raises_the_calibration_error_is_not_used() -> None:
    validation, test = overconfident(temperature=2.5), overconfident(temperature=0.8)

    calibration, reason = calibrate(validation, test)

    assert calibration == {"method": "none", "temperature": 1.0}
    assert reason is not None
    assert "raises the calibration error on the test images from 0." in reason
