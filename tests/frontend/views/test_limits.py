from __future__ import annotations

import json

import pytest

from frontend.views.limits import translated
from frontend.words import ENGLISH, words
from tests.service.shipped import MODELS

SHIPPED = {
    limit
    for path in MODELS.glob("*/*/card.json")
    for limit in json.loads(path.read_text())["limits"]
}


@pytest.mark.parametrize("limit", sorted(SHIPPED))
def test_each_limit_of_a_shipped_model_has_a_german_sentence(limit: str) -> None:
    assert translated(limit, words("de")) != limit
    assert translated(limit, ENGLISH) == limit


def test_the_numbers_of_a_limit_are_written_as_the_language_does() -> None:
    limit = "Measured on images of 10 of its 1,000 labels; of the others nothing is known here."

    assert "10 seiner 1.000 Klassen" in translated(limit, words("de"))


@pytest.mark.parametrize(
    "limit",
    [
        "When it is unsure was not measured: there were too few images.",
        "Of its right answers 9% are called unsure.",
    ],
    ids=["not-measured", "no-other-pictures"],
)
def test_a_limit_of_a_model_with_few_pictures_is_translated(limit: str) -> None:
    assert translated(limit, words("de")) != limit


def test_a_limit_in_the_words_of_the_maker_of_a_bundle_stays() -> None:
    assert translated("It knows 10 labels {n}.", words("de")) == "It knows 10 labels {n}."
