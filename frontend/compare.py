"""The compare view: all ready models on the same image, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from frontend import charts, single, views
from frontend.agreement import Agreement, agreement
from frontend.client import ServiceClient, ServiceError, TimedPrediction
from frontend.image import InputImage
from frontend.messages import escaped
from frontend.responses import ImageRead, ModelList, ModelSummary

PER_ROW = 2  # charts keep their labels readable at this width
SHOWN = 5


def all_models(client: ServiceClient, model_list: ModelList, image: InputImage) -> ImageRead | None:
    """Draw the predictions of all ready models. Returns how the service read the image, or None.

    One request after the other on purpose: models that share cores would slow each other down and
    their latencies would mean nothing. The error of one model is shown in its place.
    """
    models = model_list.ready
    if not models:
        views.no_model_ready()
        return None
    summary = st.container()
    responses: dict[str, TimedPrediction] = {}
    for start in range(0, len(models), PER_ROW):
        row = models[start : start + PER_ROW]
        for model, place in zip(row, st.columns(PER_ROW, gap="medium"), strict=False):
            with place:
                timed = _one_model(client, model, image)
            if timed is not None:
                responses[model.key] = timed
    with summary:
        _summary(responses, models)
    return next((timed.response.image for timed in responses.values()), None)


def _one_model(
    client: ServiceClient, model: ModelSummary, image: InputImage
) -> TimedPrediction | None:
    st.markdown(f"**{escaped(model.key)}**")
    st.caption(views.described(model))
    try:
        with st.spinner("Running the model"):
            # All its labels, so that scores can be compared beyond the first five.
            timed = single.predict(client, image, model, model.classes or SHOWN)
    except ServiceError as exc:
        views.show_error(exc)
        return None
    single.scores(timed.response.predictions[:SHOWN], model)
    timing = timed.response.timing_ms
    st.caption(
        f"{charts.milliseconds(timing.inference)} inference · "
        f"{charts.milliseconds(timing.total)} in the service · "
        f"{charts.milliseconds(timed.round_trip_ms)} round trip"
    )
    return timed


def _summary(responses: dict[str, TimedPrediction], models: Sequence[ModelSummary]) -> None:
    if len(responses) < 2:
        if len(models) < 2:
            st.info("One model is ready; comparing takes two.", icon=":material/info:")
        else:
            st.warning(
                "Fewer than two models answered, so there is nothing to compare.",
                icon=":material/info:",
            )
        return
    found = agreement({key: timed.response.predictions for key, timed in responses.items()}, SHOWN)
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
        if len(responses) < len(models):
            st.caption(f"{len(responses)} of {len(models)} models answered.")


def _headline(found: Agreement) -> str:
    labels = list(dict.fromkeys(found.top_labels.values()))
    if found.unanimous:
        who = "Both models" if len(found.top_labels) == 2 else f"All {len(found.top_labels)} models"
        return f"{who} say {escaped(labels[0])}"
    return "The models disagree: " + " or ".join(escaped(label) for label in labels)
