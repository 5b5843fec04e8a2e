"""Charts of the page, as Altair specifications. No Streamlit here: tests read the specification."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from frontend.responses import Prediction

BAR_HEIGHT = 30  # pixels per label
BEST, OTHER = "#2f6fd6", "#93b4e6"  # both have a contrast of 3:1 on the light and the dark theme
SCALE_END = 1.3  # past 100 %, so that "100.0 %" fits next to a full bar


def percent(score: float) -> str:
    """Format a score in [0, 1]; never rounded to 0 % or 100 %, which the model does not claim."""
    if 0 < score < 0.001:
        return "< 0.1 %"
    if 0.999 < score < 1:
        return "> 99.9 %"
    return f"{score * 100:.1f} %"


def milliseconds(value: float) -> str:
    """Format a time in milliseconds with the digits that matter."""
    if value >= 1000:
        return f"{value / 1000:.2f} s"
    return f"{value:.1f} ms" if value < 100 else f"{value:.0f} ms"


def describe(predictions: Sequence[Prediction]) -> str:
    """The chart in words, for screen readers."""
    return "; ".join(
        f"{prediction.rank}. {prediction.label}, {percent(prediction.score)}"
        for prediction in predictions
    )


def score_chart(predictions: Sequence[Prediction], ink: str = "#1d2430") -> alt.LayerChart:
    """Horizontal bars, best on top, each with its label and percentage; `ink`: the text colour."""
    rows = [
        {
            "rank": prediction.rank,
            "label": prediction.label,
            "score": prediction.score,
            "text": percent(prediction.score),
        }
        for prediction in predictions
    ]
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        y=alt.Y(
            "label:N",
            sort=[prediction.label for prediction in predictions],
            axis=alt.Axis(
                title=None,
                ticks=False,
                domain=False,
                labelLimit=150,
                labelFontSize=14,
                labelColor=ink,
                labelPadding=10,
            ),
        ),
        x=alt.X("score:Q", scale=alt.Scale(domain=[0, SCALE_END]), axis=None),
        tooltip=[alt.Tooltip("label:N", title="Label"), alt.Tooltip("text:N", title="Confidence")],
    )
    bars = base.mark_bar(cornerRadiusEnd=4, height={"band": 0.68}).encode(
        color=alt.condition(alt.datum.rank == 1, alt.value(BEST), alt.value(OTHER))
    )
    texts = base.mark_text(align="left", dx=8, fontSize=14, color=ink).encode(text="text:N")
    # SVG stays sharp on dense screens, and screen readers and tests find its text.
    chart: alt.LayerChart = (
        alt.layer(bars, texts)
        .properties(height=BAR_HEIGHT * len(rows), usermeta={"embedOptions": {"renderer": "svg"}})
        .configure_view(strokeWidth=0)
    )
    return chart
