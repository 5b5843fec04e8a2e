"""Dialogs of Classify: the code of an answer, and what the picture really shows."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from frontend.choice import InputImage
from frontend.client import TimedPrediction
from frontend.errors import ServiceError
from frontend.messages import message
from frontend.views.code import snippets
from frontend.visit import Visit


def code(visit: Visit, image: InputImage, query: dict[str, str | int]) -> None:
    """Show code that gives this very answer."""
    words = visit.words

    @st.dialog(words("Use it from code"), width="large")
    def dialog() -> None:
        found = snippets(visit.address, "/predict", query, image.name, needs_key=visit.needs_key)
        for tab, (language, text) in zip(st.tabs(list(found)), found.values(), strict=True):
            tab.code(text, language=language, wrap_lines=True)
        if image.sample is not None:
            st.download_button(
                words("Download {file}", file=image.name), image.data, file_name=image.name
            )
        if visit.needs_key:
            st.caption(words("API_KEY in the environment is your key of the service."))

    dialog()


def wrong(visit: Visit, timed: TimedPrediction, labels: Sequence[str]) -> None:
    """Ask what the picture shows, and tell the service."""
    words = visit.words

    @st.dialog(words("What does the picture show?"))
    def dialog() -> None:
        other = words("Something else")
        label = st.selectbox(words("Right label"), [other, *labels])
        st.caption(words("Only the answer and the label are kept, not the picture."))
        if st.button(words("Send"), type="primary"):
            send(visit, timed, right=False, label=None if label == other else label)
            st.rerun()

    dialog()


def send(visit: Visit, timed: TimedPrediction, *, right: bool, label: str | None) -> None:
    """Tell the service whether an answer was right, once."""
    response = timed.response
    try:
        visit.client.feedback(
            {
                "request_id": response.request_id,
                "model": response.model.name,
                "version": response.model.version,
                "predicted": response.predictions[0].label,
                "right": right,
                "label": label,
            }
        )
    except ServiceError as exc:
        st.toast(message(exc, visit.words).title)
        return
    st.session_state.setdefault("said", set()).add(response.request_id)
    st.toast(visit.words("Thank you."))
