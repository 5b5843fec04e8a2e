from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from bundle.evaluation.card import Measurement, comparison, evaluation_record, recorded
from bundle.format.card import Card, CardEvaluation
from bundle.format.manifest import Manifest, parse_manifest
from tests.bundle.format.test_manifest import record
from tests.tiny_networks import LABELS

TRUE = np.array([0, 0, 0, 1, 1, 2])
GUESS = np.array([0, 0, 1, 1, 1, 0])


def findings(guess: Any = GUESS, true: Any = TRUE, **more: Any) -> Measurement:
    logits = np.eye(3, dtype=np.float32)[guess] * 5
    return Measurement("torchscript-fp32", logits, true, **more)


def manifest() -> Manifest:
    return parse_manifest(json.dumps(record()).encode())


def test_an_evaluation_has_the_classes_and_pairs_that_occur() -> None:
    found = evaluation_record(LABELS, 1.0, findings())

    assert [(each["label"], each["samples"], each["correct"]) for each in found["per_class"]] == [
        ("blue", 3, 2),
        ("green", 2, 2),
        ("red", 1, 0),
    ]
    assert found["confusion"] == [[0, 0, 2], [0, 1, 1], [1, 1, 2], [2, 0, 1]]
    assert found["accuracy"] == pytest.approx(4 / 6)
    (only,) = found["reliability"]
    assert (only["samples"], only["accuracy"]) == (6, pytest.approx(4 / 6))
    assert found["calibration_error"] == pytest.approx(only["mean_score"] - 4 / 6)
    CardEvaluation.model_validate(found, strict=False)


def test_two_models_are_compared_where_they_disagree() -> None:
    ours, theirs = findings(), findings(np.array([0, 1, 1, 1, 2, 2]))

    found = comparison("other@1", ours, theirs.logits)

    assert found["agreement"] == pytest.approx(3 / 6)
    assert found["right_when_disagree"] == pytest.approx([2 / 3, 1 / 3])
    assert found["p_value"] == 1.0
    assert comparison("same@1", ours, ours.logits)["right_when_disagree"] is None


def test_a_difference_that_always_favours_one_model_is_not_chance() -> None:
    true = np.zeros(20, np.int64)
    found = comparison("other@1", findings(true, true), findings(true + 1, true).logits)

    assert found["p_value"] == pytest.approx(2 / 2**20)


def test_the_card_of_few_images_says_what_is_not_known() -> None:
    changes, content = recorded(
        manifest(), 1.0, findings(TRUE[:3], TRUE[:3], licence="MIT", limits=["Only colours."])
    )

    card = Card.model_validate_json(content)
    assert changes == {"rejection": None, "conformal": None, "whole": None, "card": "card.json"}
    assert card.licence == "MIT"
    assert any("images of 1 of its 3 labels" in each for each in card.limits)
    assert any("too few images" in each for each in card.limits)
    assert card.limits[-1] == "Only colours."


def test_the_limits_name_the_rates_of_other_pictures() -> None:
    random = np.random.default_rng(0)
    true = random.integers(0, 3, 400)
    logits = random.normal(0, 1, (400, 3)).astype(np.float32)
    logits[np.arange(400), true] += 5
    noise = random.normal(0, 1, (50, 3)).astype(np.float32)

    changes, content = recorded(
        manifest(), 1.0, Measurement("torchscript-fp32", logits, true, others={"noise": noise})
    )

    card, share = Card.model_validate_json(content), changes["rejection"]["all_others"]["unsure"]
    assert share > 0.5
    assert any(f"none of the labels {share:.0%}" in each for each in card.limits)
    assert card.data.evaluated_on == ["test: 400 images of 3 labels", "noise: 50 pictures"]
