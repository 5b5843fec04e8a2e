"""Charts of the page, as Altair specifications. No Streamlit here, so a test reads the specification itself."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from frontend.answers import Guess

BAR_HEIGHT = 30  # pixels per label
BEST, OTHER = "#2f6fd6", "#93b4e6"  # both hold 3:1 against the light and the dark background
MIN_WIDTH_FOR_TEXT = 1.3  # the scale runs past 100 % so that "100.0 %" fits beside a full bar


def percent(score: float) -> str:
    """Write a score in [0, 1] as a visitor reads it; a rounded 0 or 100 would claim what the model does not."""
    if 0 < score < 0.001:
        return "< 0.1 %"
    if 0.999 < score < 1:
        return "> 99.9 %"
    return f"{score * 100:.1f} %"


def milliseconds(value: float) -> str:
    """Write a time in milliseconds with as many digits as matter."""
    if value >= 1000:
        return f"{value / 1000:.2f} s"
    return f"{value:.1f} ms" if value < 100 else f"{value:.0f} ms"


def describe(guesses: Sequence[Guess]) -> str:
    """The chart in words, for those who do not see it."""
    return "; ".join(f"{guess.rank}. {guess.label}, {percent(guess.score)}" for guess in guesses)


def score_chart(guesses: Sequence[Guess], ink: str = "#1d2430") -> alt.LayerChart:
    """Horizontal bars, best on top, each with its label and its percentage; `ink` is the colour of the text."""
    rows = [
        {
            "rank": guess.rank,
            "label": guess.label,
            "score": guess.score,
            "text": percent(guess.score),
        }
        for guess in guesses
    ]
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        y=alt.Y(
            "label:N",
            sort=[guess.label for guess in guesses],
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
        x=alt.X("score:Q", scale=alt.Scale(domain=[0, MIN_WIDTH_FOR_TEXT]), axis=None),
        tooltip=[alt.Tooltip("label:N", title="Label"), alt.Tooltip("text:N", title="Confidence")],
    )
    bars = base.mark_bar(cornerRadiusEnd=4, height={"band": 0.68}).encode(
        color=alt.condition(alt.datum.rank == 1, alt.value(BEST), alt.value(OTHER))
    )
    texts = base.mark_text(align="left", dx=8, fontSize=14, color=ink).encode(text="text:N")
    # SVG stays sharp on dense screens, and its text is text: readers and tests find it.
    drawn: alt.LayerChart = (
        alt.layer(bars, texts)
        .properties(height=BAR_HEIGHT * len(rows), usermeta={"embedOptions": {"renderer": "svg"}})
        .configure_view(strokeWidth=0)
    )
    return drawn
