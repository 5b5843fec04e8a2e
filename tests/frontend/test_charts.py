from __future__ import annotations

import pytest

from frontend.charts import describe, milliseconds, percent, score_chart
from frontend.responses import Prediction

PREDICTIONS = [
    Prediction(rank=1, index=8, label="ship", score=0.9),
    Prediction(rank=2, index=0, label="airplane", score=0.098),
]


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (0.0, "0.0 %"),
        (0.0004, "< 0.1 %"),
        (0.001, "0.1 %"),
        (0.5, "50.0 %"),
        (0.99951, "> 99.9 %"),
        (1.0, "100.0 %"),
    ],
)
def test_percentages_never_claim_more_than_the_score(score: float, text: str) -> None:
    assert percent(score) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.04, "0.0 ms"), (7.44, "7.4 ms"), (123.4, "123 ms"), (2345.0, "2.35 s")]
)
def test_times_have_the_digits_that_matter(value: float, text: str) -> None:
    assert milliseconds(value) == text


def test_bars_stand_in_rank_order_with_their_percentages() -> None:
    drawn = score_chart(PREDICTIONS).to_dict()

    bars, texts = drawn["layer"]
    assert bars["encoding"]["y"]["sort"] == ["ship", "airplane"]
    assert bars["mark"]["type"] == "bar"
    assert texts["encoding"]["text"]["field"] == "text"
    (rows,) = drawn["datasets"].values()
    assert [row["text"] for row in rows] == ["90.0 %", "9.8 %"]


def test_the_chart_has_words_for_screen_readers() -> None:
    assert describe(PREDICTIONS).startswith("1. ship, 90.0 %; 2. airplane,")
