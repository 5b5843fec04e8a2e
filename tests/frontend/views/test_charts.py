from __future__ import annotations

from frontend.cards import Card
from frontend.views.charts import confusion_chart, reliability_chart
from frontend.words import ENGLISH, words
from tests.frontend.fake_records import LABELS, card
from tests.frontend.fake_service import TORCH

TESTED = Card.model_validate(card(TORCH["name"])).evaluations[0]


def test_the_confusion_matrix_has_true_labels_as_rows_in_their_order() -> None:
    drawn = confusion_chart(TESTED, LABELS, ENGLISH, "#000000").to_dict()

    squares, texts = drawn["layer"]
    assert squares["encoding"]["y"]["sort"] == LABELS
    assert squares["encoding"]["y"]["title"] == "true label"
    assert texts["mark"]["type"] == "text"
    (rows,) = drawn["datasets"].values()
    assert rows[0] == {"true": "airplane", "said": "airplane", "count": 850, "text": "850"}
    assert rows[1]["said"] == "automobile"


def test_the_reliability_chart_leaves_out_scores_that_no_picture_had() -> None:
    bins = [
        each.model_copy(update={"samples": 0 if each.low < 0.5 else 9})
        for each in TESTED.reliability
    ]

    drawn = reliability_chart(bins, words("de"), "#000000").to_dict()

    rows = next(rows for rows in drawn["datasets"].values() if "score" in rows[0])
    assert [round(row["score"], 2) for row in rows] == [0.55, 0.65, 0.75, 0.85, 0.95]
    assert drawn["layer"][1]["encoding"]["x"]["title"] == "Wert"


def test_a_score_means_what_was_measured_of_such_scores() -> None:
    found = Card.model_validate(card(TORCH["name"]))

    assert found.right_of_100(0.93) == 92
    assert found.right_of_100(0.05, least=1000) is None
    assert Card(name="x", version=1).right_of_100(0.5) is None
