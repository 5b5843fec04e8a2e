"""The compare view: every ready model is asked about the same picture, and the answers stand side by side."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from frontend import charts, views
from frontend.agreement import Agreement, agreement
from frontend.answers import Catalogue, ImageRead, ServedModel
from frontend.client import Asked, ServiceClient, ServiceError
from frontend.messages import escaped
from frontend.picture import Picture

PER_ROW = 2  # charts keep their labels readable at this width
SHOWN = 5


def all_models(client: ServiceClient, catalogue: Catalogue, picture: Picture) -> ImageRead | None:
    """Ask all ready models and draw their answers. Returns how the first to answer read the picture, or None.

    One after the other on purpose: models that share the same cores would slow each other, and their latencies
    would say nothing. A model that fails shows its message in its own place and the rest go on.
    """
    models = catalogue.ready
    if not models:
        views.no_model_ready()
        return None
    summary = st.container()
    answers: dict[str, Asked] = {}
    for start in range(0, len(models), PER_ROW):
        row = models[start : start + PER_ROW]
        for model, place in zip(row, st.columns(PER_ROW, gap="medium"), strict=False):
            with place:
                asked = _one_answer(client, model, picture)
            if asked is not None:
                answers[model.key] = asked
    with summary:
        _summary(answers, models)
    return next((asked.prediction.image for asked in answers.values()), None)


def _one_answer(client: ServiceClient, model: ServedModel, picture: Picture) -> Asked | None:
    st.markdown(f"**{escaped(model.key)}**")
    st.caption(views.described(model))
    try:
        with st.spinner("Asking the model"):
            # All its labels, so that scores can be compared beyond the first five.
            asked = views.ask(client, picture, model, model.classes or SHOWN)
    except ServiceError as exc:
        views.show_error(exc)
        return None
    views.scores(asked.prediction.predictions[:SHOWN], model)
    timing = asked.prediction.timing_ms
    st.caption(
        f"{charts.milliseconds(timing.inference)} inference · {charts.milliseconds(timing.total)} in the service · "
        f"{charts.milliseconds(asked.round_trip_ms)} round trip"
    )
    return asked


def _summary(answers: dict[str, Asked], models: Sequence[ServedModel]) -> None:
    if len(answers) < 2:
        if len(models) < 2:
            st.info("One model is ready; comparing takes two.", icon=":material/info:")
        else:
            st.warning(
                "Fewer than two models answered, so there is nothing to compare.",
                icon=":material/info:",
            )
        return
    found = agreement({key: asked.prediction.predictions for key, asked in answers.items()}, SHOWN)
    with st.container(border=True):
        st.markdown(f"### {_headline(found)}")
        with st.container(horizontal=True, gap="medium"):
            st.metric("Same first label", "yes" if found.unanimous else "no", width="content")
            st.metric(
                f"Shared of the first {found.k}",
                f"{found.overlap:.0%}".replace("%", " %"),
                width="content",
            )
            if found.score_difference is not None:
                st.metric(
                    f"Largest difference ({found.score_label})",
                    f"{found.score_difference * 100:.1f} points",
                    width="content",
                )
        if len(answers) < len(models):
            st.caption(f"{len(answers)} of {len(models)} models answered.")


def _headline(found: Agreement) -> str:
    labels = list(dict.fromkeys(found.top_labels.values()))
    if found.unanimous:
        who = "Both models" if len(found.top_labels) == 2 else f"All {len(found.top_labels)} models"
        return f"{who} say {escaped(labels[0])}"
    return "The models disagree: " + " or ".join(escaped(label) for label in labels)
