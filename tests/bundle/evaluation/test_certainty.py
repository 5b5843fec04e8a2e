from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from bundle.certainty import doubt, novelty, prediction_set
from bundle.evaluation.certainty import (
    COVERAGES,
    NOVEL_RIGHT,
    UNSURE_RIGHT,
    auroc,
    fit_certainty,
    fit_thresholds,
)
from bundle.format.manifest import Conformal, Rejection
from bundle.scores import calibrated_softmax

CLASSES = 10
NAMES = [f"label {index}" for index in range(CLASSES)]


def images(
    count: int, seed: int, strength: float = 4.0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits of images of random classes, whose own logit is higher by about `strength`."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, count)
    logits = random.normal(0, 1.5, (count, CLASSES)).astype(np.float32)
    logits[np.arange(count), labels] += strength
    return logits, labels


def fitted(seed: int = 0, count: int = 2000) -> tuple[Rejection, Conformal]:
    others = {"noise": images(300, seed + 100, 0.0)[0], "dim": images(200, seed + 200, 1.0)[0]}
    found = fit_certainty(*images(count, seed), 1.0, "openvino-int8", others)
    return (
        Rejection.model_validate(found["rejection"], strict=False),
        Conformal.model_validate(found["conformal"], strict=False),
    )


def test_at_most_the_stated_share_of_right_answers_is_unsure_also_of_new_images() -> None:
    rejection, _ = fitted()
    logits, labels = images(20_000, 7)
    right = logits.argmax(1) == labels
    best = calibrated_softmax(logits, 1.0).max(1)

    doubts = np.array(
        [doubt(rejection, row, score) for row, score in zip(logits, best, strict=True)]
    )

    unsure = doubts != None  # noqa: E711 - of each element
    assert unsure[right].mean() == pytest.approx(UNSURE_RIGHT, abs=0.015)
    assert (doubts == "none_of_the_classes")[right].mean() == pytest.approx(NOVEL_RIGHT, abs=0.015)
    assert rejection.right_unsure == pytest.approx(UNSURE_RIGHT, abs=0.01)
    assert unsure[~right].mean() == pytest.approx(rejection.wrong_unsure, abs=0.06)
    error = (~right[~unsure]).mean()
    assert rejection.error_if_sure == pytest.approx(error, abs=0.01)
    assert error < rejection.error / 1.5


def test_other_pictures_are_measured_by_kind_and_together_and_change_no_threshold() -> None:
    rejection, _ = fitted()
    alone = fit_certainty(*images(2000, 0), 1.0, "openvino-int8")["rejection"]

    noise, dim = rejection.others
    together = rejection.all_others

    assert (noise.kind, noise.samples, dim.kind) == ("noise", 300, "dim")
    assert noise.auroc > dim.auroc > 0.6
    assert together is not None
    assert together.samples == 500
    assert together.unsure == pytest.approx((noise.unsure * 3 + dim.unsure * 2) / 5)
    assert together.interval_95[0] < together.auroc < together.interval_95[1]
    assert alone["novelty_threshold"] == rejection.novelty_threshold
    assert alone["score_threshold"] == rejection.score_threshold
    assert alone["all_others"] is None


def test_novelty_does_not_depend_on_a_constant_added_to_all_logits() -> None:
    logits, _ = images(50, 1)

    assert novelty(logits + 100) == pytest.approx(novelty(logits), abs=1e-4)


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95, 0.99])
def test_sets_hold_the_label_of_new_images_as_often_as_they_say(coverage: float) -> None:
    _, conformal = fitted(count=5000)
    logits, labels = images(5000, 8)
    scores = calibrated_softmax(logits, 1.0)

    sets = [prediction_set(conformal, row, NAMES, coverage) for row in scores]

    held = [
        any(each["index"] == label for each in found["labels"])
        for found, label in zip(sets, labels, strict=True)
    ]
    assert np.mean(held) == pytest.approx(coverage, abs=0.015)
    assert sets[0]["measured_coverage"] == pytest.approx(coverage, abs=0.015)
    size = next(each.mean_size for each in conformal.sets if each.coverage == coverage)
    assert np.mean([len(found["labels"]) for found in sets]) == pytest.approx(size, rel=0.1)


def test_sets_grow_with_the_coverage_and_begin_with_the_best_label() -> None:
    _, conformal = fitted()
    logits, _ = images(50, 9)

    for row in calibrated_softmax(logits, 1.0):
        sets = [prediction_set(conformal, row, NAMES, coverage)["labels"] for coverage in COVERAGES]
        for smaller, larger in pairwise(sets):
            assert smaller == larger[: len(smaller)]
        assert sets[-1][0]["index"] == row.argmax()


def test_a_coverage_between_two_of_the_record_gives_the_larger_set() -> None:
    _, conformal = fitted()
    scores = calibrated_softmax(images(1, 3)[0], 1.0)[0]

    assert prediction_set(conformal, scores, NAMES, 0.901)["coverage"] == 0.91
    assert prediction_set(conformal, scores, NAMES, 0.9)["coverage"] == 0.9


def test_with_too_few_images_for_a_coverage_its_sets_hold_every_label() -> None:
    conformal = fitted(count=130)[1]

    assert conformal.sets[-1].coverage == 0.99
    few = fit_certainty(*images(120, 0, 50.0), 1.0, "x")["conformal"]["sets"]
    assert few[-1]["threshold"] > 0
    assert few[-1]["measured_coverage"] == 1


def test_with_fewer_than_a_hundred_right_answers_nothing_is_recorded() -> None:
    assert fit_certainty(*images(99, 0), 1.0, "x") == {"rejection": None, "conformal": None}


def test_thresholds_are_themselves_sure() -> None:
    logits, labels = images(500, 4)
    best = calibrated_softmax(logits, 1.0).max(1)

    found = fit_thresholds(logits, best, logits.argmax(1) == labels)

    right = logits.argmax(1) == labels
    assert int(found.unsure(logits, best)[right].sum()) == int(UNSURE_RIGHT * right.sum())


def test_the_area_under_the_curve_is_the_share_of_ordered_pairs() -> None:
    inside, outside = np.array([0.5, 2.0, 3.0]), np.array([0.5, 1.0])

    area, (low, high) = auroc(inside, outside)

    assert area == pytest.approx((0.5 + 4) / 6)
    assert low < area < high <= 1
    assert auroc(outside + 10, inside) == (1.0, [1.0, 1.0])
