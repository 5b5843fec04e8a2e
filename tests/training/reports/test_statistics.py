from __future__ import annotations

import numpy as np
import pytest

from training.reports.statistics import accuracy, agreement, latency, paired_difference, per_class


def test_precision_recall_and_f1_of_a_case_counted_by_hand() -> None:
    table = per_class(np.array([0, 1, 1, 1, 2]), np.array([0, 0, 1, 1, 2]), ["a", "b", "c"])

    assert table["confusion_matrix"] == [[1, 1, 0], [0, 2, 0], [0, 0, 1]]
    assert [row["precision"] for row in table["per_class"]] == pytest.approx([1, 2 / 3, 1])
    assert [row["recall"] for row in table["per_class"]] == pytest.approx([0.5, 1, 1])
    assert [row["f1"] for row in table["per_class"]] == pytest.approx([2 / 3, 0.8, 1])
    assert [row["support"] for row in table["per_class"]] == [2, 2, 1]
    assert table["macro_f1"] == pytest.approx((2 / 3 + 0.8 + 1) / 3)


def test_a_class_that_is_never_predicted_counts_as_zero() -> None:
    table = per_class(np.array([0, 0]), np.array([0, 1]), ["a", "b"])

    assert table["per_class"][1]["precision"] == 0
    assert table["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)


def test_accuracy_has_the_interval_of_wilson() -> None:
    figures = accuracy(np.array([True] * 8 + [False] * 2))

    assert (figures["value"], figures["right"], figures["samples"]) == (0.8, 8, 10)
    # Wilson's formula with z = 1.96: (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n).
    assert figures["interval_95"] == pytest.approx([0.4902, 0.9433], abs=1e-4)


def test_a_paired_difference_counts_the_images_that_one_alone_gets_right() -> None:
    first = np.array([True] * 90 + [False] * 10)
    second = np.array([True] * 80 + [False] * 18 + [True] * 2)

    figures = paired_difference(first, second)
    reverse = paired_difference(second, first)

    assert (figures["only_first_right"], figures["only_second_right"]) == (10, 2)
    assert figures["difference"] == pytest.approx(0.08)
    # Of 12 fair coins, 2 or fewer or 10 or more heads: 2 · (1 + 12 + 66) / 4096.
    assert figures["p_value"] == pytest.approx(2 * 79 / 4096)
    low, high = figures["interval_95"]
    assert low < 0.08 < high
    assert reverse["interval_95"] == pytest.approx([-high, -low])


def test_models_that_are_right_on_the_same_images_do_not_differ() -> None:
    right = np.array([True, False, True])

    figures = paired_difference(right, right)

    assert (figures["difference"], figures["p_value"]) == (0, 1)
    assert figures["interval_95"][0] < 0 < figures["interval_95"][1]


def test_agreement_is_the_share_of_equal_predictions() -> None:
    figures = agreement([np.array([0, 1, 2, 0]), np.array([0, 1, 1, 0]), np.array([0, 0, 1, 1])])

    assert figures["matrix"] == [[1, 0.75, 0.25], [0.75, 1, 0.5], [0.25, 0.5, 1]]
    assert figures["all"] == 0.25


def test_a_disturbed_round_leaves_the_latency_as_it_was() -> None:
    quiet, disturbed = [0.002] * 19 + [0.004], [0.9] * 20

    figures = latency([quiet, disturbed, quiet], [0.1, 5.0, 0.1], 32)

    assert figures["median_ms"] == pytest.approx(2)
    assert 2 <= figures["p95_ms"] < 4
    assert figures["images_per_second"] == pytest.approx(320)
