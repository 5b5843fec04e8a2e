"""The view of one model: choose it, predict, draw the labels and the time."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any

import streamlit as st

from frontend import charts, views
from frontend.client import ServiceClient, ServiceError, TimedPrediction
from frontend.image import InputImage
from frontend.messages import escaped
from frontend.responses import ImageRead, ModelList, ModelSummary, Prediction

INK = {"light": "#1d2430", "dark": "#e8ebf0"}  # text colours of .streamlit/config.toml
TOP_K = 5  # labels requested at first
CACHED_RESPONSES = 16  # per visitor


def one_model(client: ServiceClient, model_list: ModelList, image: InputImage) -> ImageRead | None:
    """Choose a model and draw its prediction. Returns how the service read the image, or None."""
    if not model_list.ready:
        views.no_model_ready()
        return None
    model, top_k = _choose_model(model_list.ready)
    st.caption(views.described(model))
    try:
        with st.spinner("Running the model"):
            timed = predict(client, image, model, top_k)
    except ServiceError as exc:
        views.show_error(exc)
        st.button("Try again", icon=":material/refresh:")
        return None
    best = timed.response.predictions[0]
    st.markdown(f"### {escaped(best.label)} · {charts.percent(best.score)}")
    scores(timed.response.predictions, model)
    with st.expander("As a table"):
        st.table(table(timed.response.predictions), hide_index=True, border="horizontal")
    latency(timed)
    return timed.response.image


def _choose_model(models: Sequence[ModelSummary]) -> tuple[ModelSummary, int]:
    by_key = {model.key: model for model in models}
    wide, narrow = st.columns([3, 1])
    with wide:
        model = by_key[st.selectbox("Model", list(by_key))]
    with narrow:
        classes = model.classes or TOP_K
        top_k = st.number_input(
            "Labels", min_value=1, max_value=classes, value=min(TOP_K, classes), step=1
        )
    return model, int(top_k)


def predict(
    client: ServiceClient, image: InputImage, model: ModelSummary, top_k: int
) -> TimedPrediction:
    """One request per image, model and number of labels; Streamlit redraws far more often.

    Raises:
        ServiceError: as the client does; failures are not cached.
    """
    cached: MutableMapping[tuple[str, str, int], TimedPrediction]
    cached = st.session_state.setdefault("responses", {})
    key = (image.digest, model.key, top_k)
    if key not in cached:
        timed = client.predict(image.data, model=model.name, version=model.version, top_k=top_k)
        while len(cached) >= CACHED_RESPONSES:
            del cached[next(iter(cached))]
        cached[key] = timed
    return cached[key]


def scores(predictions: Sequence[Prediction], model: ModelSummary) -> None:
    """The bar chart, with its content in words for screen readers."""
    theme = "dark" if st.context.theme.type == "dark" else "light"
    st.altair_chart(
        charts.score_chart(predictions, INK[theme]),
        width="stretch",
        alt=f"Bar chart of the best labels of {model.key}: {charts.describe(predictions)}",
    )


def table(predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """The same predictions as rows, with more digits."""
    return [
        {
            "Rank": prediction.rank,
            "Label": prediction.label,
            "Confidence": charts.percent(prediction.score),
            "Score": f"{prediction.score:.6f}",
        }
        for prediction in predictions
    ]


def latency(timed: TimedPrediction) -> None:
    """Time per stage inside the service, and the round trip as seen from here."""
    timing = timed.response.timing_ms
    steps = {
        "Decode": timing.decode,
        "Queue": timing.queue,
        "Inference": timing.inference,
        "Service": timing.total,
    }
    st.markdown("**Time**")
    with st.container(horizontal=True, gap="medium"):
        for step, spent in {**steps, "Round trip": timed.round_trip_ms}.items():
            st.metric(step, charts.milliseconds(spent), width="content")
    st.caption(
        "Service is the whole time inside it, from the request headers to the response, a slow "
        "upload included; the round trip is what this page waited. "
        f"Request {escaped(timed.response.request_id)}"
    )
