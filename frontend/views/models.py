"""The card of a model: how good it is, what it gets wrong, and what it can't do."""

from __future__ import annotations

from typing import Any

import streamlit as st

from frontend.cards import Card, Evaluation
from frontend.choice import option, set_option, write_address
from frontend.messages import escaped
from frontend.responses import ModelRecord, ModelSummary
from frontend.views import charts, limits
from frontend.visit import Visit, described, show_trouble
from frontend.words import Words

DRAWN = 20  # classes whose confusion matrix can be read as a picture
LISTED = 12  # rows of a list
INK = {"light": "#10151d", "dark": "#e8ebf0"}  # text colours of .streamlit/config.toml


def draw(visit: Visit) -> None:
    """Draw the view."""
    words = visit.words
    trouble = visit.trouble()
    if trouble is not None:
        st.title(words("Models"), anchor=False)
        show_trouble(visit, trouble)
        return
    model = _chosen(visit)
    st.title(escaped(model.key), anchor=False)
    record, card = visit.record(model), visit.card(model)
    description = (card.description if card else None) or (record.description if record else None)
    if description:
        st.markdown(escaped(description))
    st.caption(described(model, words))
    if card is None:
        st.info(words("No evaluation of this model is recorded."))
        _classes(record, words)
        return
    labels = (record.labels if record else None) or []
    if card.tested is not None:
        _figures(card, card.tested, words)
        _errors(card.tested, labels, words)
    _artifacts(card, words)
    _comparisons(card, words)
    _limits(card, words)
    _classes(record, words)


def _chosen(visit: Visit) -> ModelSummary:
    by_key = {model.key: model for model in visit.ready}
    asked = f"{option('model')} v{option('version')}"
    key = st.selectbox(
        visit.words("Model"),
        list(by_key),
        index=list(by_key).index(asked) if asked in by_key else 0,
        width=340,
    )
    model = by_key[key]
    if asked in by_key or key != next(iter(by_key)):
        set_option("model", model.name)
        set_option("version", str(model.version))
    write_address({"model": option("model"), "version": option("version"), "lang": option("lang")})
    return model


def _figures(card: Card, tested: Evaluation, words: Words) -> None:
    figures = {
        words("Right on test pictures"): words.percent(tested.accuracy),
        words("Test pictures"): words.number(tested.samples),
    }
    if tested.calibration_error is not None:
        figures[words("Calibration error")] = words.percent(tested.calibration_error)
    fastest = min(
        (each.latency_ms for each in card.artifacts if each.latency_ms is not None), default=None
    )
    if fastest is not None:
        figures[words("One picture takes")] = words.milliseconds(fastest)
    with st.container(horizontal=True, gap="large"):
        for name, value in figures.items():
            st.metric(name, value, width="content")
    if tested.interval_95 is not None:
        low, high = map(words.percent, tested.interval_95)
        st.caption(
            words(
                "With other test pictures of the same kind it would be {low} to {high}.",
                low=low,
                high=high,
            )
        )


def _errors(tested: Evaluation, labels: list[str], words: Words) -> None:
    st.header(words("What it gets wrong, and whether its scores can be believed"), anchor=False)
    ink = INK["dark" if st.context.theme.type == "dark" else "light"]
    left, right = st.columns(2, gap="large")
    with left:
        if tested.confusion and labels and len(labels) <= DRAWN:
            st.altair_chart(
                charts.confusion_chart(tested, labels, words, ink),
                width="stretch",
                alt=words("Confusion matrix; the list below has its largest errors"),
            )
        wrong = sorted((each for each in tested.confusion if each[0] != each[1]), key=_count)
        if wrong and labels:
            columns = (words("true label"), words("answer"), words("pictures"))
            st.table(
                [
                    dict(zip(columns, (labels[true], labels[said], words.number(n)), strict=True))
                    for true, said, n in wrong[:LISTED]
                ],
                hide_index=True,
                border="horizontal",
            )
    with right:
        if tested.reliability:
            st.altair_chart(
                charts.reliability_chart(tested.reliability, words, ink),
                width="stretch",
                alt=words("Share of right answers by score"),
            )
        rows = _worst(tested, words)
        if rows:
            st.markdown(f"**{words('Hardest labels')}**")
            st.table(rows, hide_index=True, border="horizontal")


def _count(cell: tuple[int, int, int]) -> int:
    return -cell[2]


def _worst(tested: Evaluation, words: Words) -> list[dict[str, Any]]:
    ordered = sorted(tested.per_class, key=lambda each: each.correct / max(each.samples, 1))
    return [
        {
            words("label"): each.label,
            words("right"): _with_interval(
                each.correct / max(each.samples, 1), each.interval_95, words
            ),
            words("pictures"): words.number(each.samples),
        }
        for each in ordered[:LISTED]
    ]


def _with_interval(share: float, interval: tuple[float, float] | None, words: Words) -> str:
    if interval is None:
        return words.percent(share)
    return words(
        "{share} ({low} to {high})",
        share=words.percent(share),
        low=words.number(interval[0] * 100, 1),
        high=words.number(interval[1] * 100, 1),
    )


def _artifacts(card: Card, words: Words) -> None:
    if not card.artifacts:
        return
    st.header(words("Speed and size"), anchor=False)
    st.table(
        [
            {
                words("form"): each.id,
                words("right"): "" if each.accuracy is None else words.percent(each.accuracy, 2),
                words("one picture"): ""
                if each.latency_ms is None
                else words.milliseconds(each.latency_ms),
                words("size"): "" if each.bytes is None else words.file_size(each.bytes),
            }
            for each in card.artifacts
        ],
        hide_index=True,
        border="horizontal",
    )


def _comparisons(card: Card, words: Words) -> None:
    if not card.comparisons:
        return
    st.header(words("Compared with other models"), anchor=False)
    for each in card.comparisons:
        parts = [
            words(
                "On {n} test pictures it says the same as {model} for {share}.",
                n=words.number(each.samples),
                model=each.model,
                share=words.percent(each.agreement or 0.0),
            )
        ]
        if each.right_when_disagree is not None:
            parts.append(
                words(
                    "Where they disagree, this one is right in {one}, the other in {other}.",
                    one=words.percent(each.right_when_disagree[0], 0),
                    other=words.percent(each.right_when_disagree[1], 0),
                )
            )
        if each.p_value is not None:
            parts.append(
                words(
                    "Such a difference of accuracies comes by chance with p = {p}.",
                    p=words.number(each.p_value, 3),
                )
            )
        st.markdown(escaped(" ".join(parts)))


def _limits(card: Card, words: Words) -> None:
    st.header(words("Limits"), anchor=False)
    for limit in card.limits:
        st.markdown(f"- {escaped(limits.translated(limit, words))}")
    if card.data:
        st.markdown(escaped(words("Trained on: {text}", text=card.data.trained_on)))
        tested = "; ".join(card.data.evaluated_on)
        st.markdown(escaped(words("Evaluated on: {text}", text=tested)))
    if card.licence:
        st.markdown(escaped(words("Licence: {text}", text=card.licence)))


def _classes(record: ModelRecord | None, words: Words) -> None:
    labels = (record.labels if record else None) or []
    if labels:
        with st.expander(
            words.count("The {n} label it knows", "The {n} labels it knows", len(labels))
        ):
            st.write(escaped(", ".join(labels)))
