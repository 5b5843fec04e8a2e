from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle.format.baseline import Baseline
from bundle.scores import baseline, calibrated_softmax, top_k


@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=2, max_size=20),
    st.floats(0.05, 20),
    st.integers(1, 25),
)
def test_scores_sum_to_one_and_keep_the_order_of_the_logits(
    logits: list[float], temperature: float, k: int
) -> None:
    scores = calibrated_softmax([logits], temperature)[0]
    labels = [str(index) for index in range(len(logits))]

    best = top_k(scores, labels, k)

    assert scores.sum() == pytest.approx(1)
    assert len(best) == min(k, len(logits))
    assert [item["rank"] for item in best] == list(range(1, len(best) + 1))
    assert all(first["score"] >= second["score"] for first, second in pairwise(best))
    assert best[0]["score"] == scores[int(np.argmax(logits))]


def test_temperature_divides_the_logits() -> None:
    assert calibrated_softmax([0.0, 2.0], 2.0)[1] == pytest.approx(np.e / (1 + np.e))


def test_equal_scores_stand_in_the_order_of_their_index() -> None:
    assert [item["label"] for item in top_k([0.25, 0.25, 0.5], ["a", "b", "c"], 3)] == [
        "c",
        "a",
        "b",
    ]


def test_wrong_arguments_are_refused() -> None:
    for temperature in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="temperature"):
            calibrated_softmax([1.0], temperature)
    with pytest.raises(ValueError, match="finite"):
        calibrated_softmax([float("nan")], 1)
    with pytest.raises(ValueError, match="One score per label"):
        top_k([1.0], ["a", "b"], 1)
    with pytest.raises(ValueError, match="at least 1"):
        top_k([1.0], ["a"], 0)


def test_the_baseline_has_each_image_once_in_scores_and_in_classes() -> None:
    logits = np.log([[0.5, 0.3, 0.2], [0.1, 0.85, 0.05], [0.001, 0.998, 0.001], [1.0, 1e-9, 1e-9]])

    found = baseline(logits, 1.0, "validation")

    assert found == {
        "split": "validation",
        "samples": 4,
        "scores": [0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 2],
        "classes": [2, 2, 0],
    }
    assert Baseline.model_validate(found).samples == 4
    flat = baseline(logits, 1e6, "validation")["scores"]
    assert flat == [0, 0, 0, 4, *[0] * 8], "the scores are those at the temperature"
