"""Charts of a model's card, as Altair specifications. No Streamlit here: tests read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import altair as alt

from frontend.cards import Bin, Evaluation
from frontend.words import Words

SIDE = 460  # pixels of a chart
NONE = "#e9f0fb"  # of the confusion matrix, where nothing was confused


def confusion_chart(
    found: Evaluation, labels: Sequence[str], words: Words, ink: str
) -> alt.LayerChart:
    """The confusion matrix: rows are the true labels, columns the answers.

    Args:
        found: with its sparse matrix.
        labels: names by index.
        words: the visitor's language.
        ink: colour of text.
    """
    rows = [
        {"true": labels[true], "said": labels[said], "count": count, "text": words.number(count)}
        for true, said, count in found.confusion
    ]
    largest = max((count for _, _, count in found.confusion), default=1)
    order: list[Any] = list(labels)
    axis = alt.Axis(labelColor=ink, titleColor=ink, ticks=False, domain=False, labelLimit=140)
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X("said:N", sort=order, title=words("answer"), axis=axis),
        y=alt.Y("true:N", sort=order, title=words("true label"), axis=axis),
        tooltip=["true:N", "said:N", "count:Q"],
    )
    squares = base.mark_rect().encode(
        color=alt.Color(
            "count:Q",
            scale=alt.Scale(domain=[0, largest], range=[NONE, "#17479e"]),
            legend=None,
        )
    )
    texts = base.mark_text(fontSize=11).encode(
        text="text:N",
        color=alt.condition(
            alt.datum.count > largest / 2, alt.value("#ffffff"), alt.value("#1d2430")
        ),
    )
    return _finished(alt.layer(squares, texts), fill=NONE)


def reliability_chart(bins: Sequence[Bin], words: Words, ink: str) -> alt.LayerChart:
    """The share of right answers by score; on the diagonal a score means what it says."""
    rows = [
        {"score": each.mean_score, "right": each.accuracy, "n": each.samples}
        for each in bins
        if each.samples and each.mean_score is not None and each.accuracy is not None
    ]
    axis = alt.Axis(format="%", labelColor=ink, titleColor=ink, gridOpacity=0.4)
    scale = alt.Scale(domain=[0, 1])
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X("score:Q", title=words("score"), axis=axis, scale=scale),
        y=alt.Y("right:Q", title=words("of these are right"), axis=axis, scale=scale),
        tooltip=[
            alt.Tooltip("score:Q", format=".1%"),
            alt.Tooltip("right:Q", format=".1%"),
            alt.Tooltip("n:Q", format=",", title=words("pictures")),
        ],
    )
    ideal = (
        alt.Chart(alt.InlineData(values=[{"a": 0, "b": 0}, {"a": 1, "b": 1}]))
        .mark_line(strokeDash=[4, 4], color=ink, opacity=0.6)
        .encode(x="a:Q", y="b:Q")
    )
    line = base.mark_line(color="#2f6fd6")
    points = base.mark_circle(color="#2f6fd6", opacity=1).encode(
        size=alt.Size("n:Q", legend=None, scale=alt.Scale(range=[30, 260]))
    )
    return _finished(alt.layer(ideal, line, points))


def _finished(layers: Any, fill: str | None = None) -> alt.LayerChart:
    # SVG stays sharp on dense screens, and screen readers and tests find its text.
    chart = layers.properties(
        width=SIDE, height=SIDE, usermeta={"embedOptions": {"renderer": "svg"}}
    ).configure_view(strokeWidth=0, fill=fill)
    return cast(alt.LayerChart, chart)
