from __future__ import annotations

import pytest

from frontend.agreement import agreement
from frontend.responses import Prediction


def predicted(**scores: float) -> list[Prediction]:
    ordered = sorted(scores.items(), key=lambda item: -item[1])
    return [
        Prediction(rank=r, index=r, label=label, score=score)
        for r, (label, score) in enumerate(ordered, start=1)
    ]


def test_equal_predictions_agree_fully() -> None:
    one = predicted(cat=0.9, dog=0.1)

    found = agreement({"a": one, "b": one}, 5)

    assert found.unanimous
    assert (found.overlap, found.k, found.score_difference) == (1.0, 2, 0.0)


def test_the_overlap_is_the_mean_over_pairs() -> None:
    found = agreement(
        {
            "a": predicted(cat=0.5, dog=0.4, ship=0.1),
            "b": predicted(cat=0.6, ship=0.3, dog=0.1),
            "c": predicted(frog=0.7, deer=0.3),
        },
        2,
    )

    assert not found.unanimous
    assert found.overlap == pytest.approx((0.5 + 0 + 0) / 3)


def test_the_largest_difference_counts_all_labels_and_names_its_own() -> None:
    found = agreement(
        {
            "a": predicted(cat=0.9, dog=0.08, ship=0.02),
            "b": predicted(cat=0.5, ship=0.48, dog=0.02),
        },
        1,
    )

    assert found.score_label == "ship"
    assert found.score_difference == pytest.approx(0.46)


def test_models_without_a_common_label_have_no_difference() -> None:
    found = agreement({"a": predicted(cat=1.0), "b": predicted(red=1.0)}, 5)

    assert (found.overlap, found.score_difference, found.score_label) == (0.0, None, None)


def test_one_model_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="two models or more"):
        agreement({"a": predicted(cat=1.0)}, 5)
