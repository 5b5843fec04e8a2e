"""Whether the service is ready, and if not, why; for an operator also how much it does."""

from __future__ import annotations

from typing import Any

import streamlit as st

from frontend.errors import ServiceError
from frontend.messages import escaped
from frontend.metrics import Sample, by, quantile, samples, total
from frontend.responses import ModelSummary
from frontend.visit import Visit, described, show_trouble
from frontend.words import Words

EVERY_S = 5.0
COLOURS = {"ready": "green", "loading": "orange", "restarting": "orange", "refused": "red"}


def draw(visit: Visit) -> None:
    """Draw the view; its figures follow the service by themselves."""
    words = visit.words
    st.title(words("Status"), anchor=False)
    trouble = visit.trouble()
    if trouble is not None:
        show_trouble(visit, trouble)
    else:
        st.success(words("The service is ready: it answers."), icon=":material/check_circle:")
    if visit.model_list is None:
        return
    st.header(words("Models"), anchor=False)
    for model in visit.model_list.models:
        _model(model, words, default=model.name == visit.model_list.default)

    @st.fragment(run_every=EVERY_S)
    def part() -> None:
        _figures(visit)

    part()


def _model(model: ModelSummary, words: Words, *, default: bool) -> None:
    states = {
        "ready": words("ready"),
        "loading": words("loading"),
        "restarting": words("restarting"),
        "refused": words("refused"),
    }
    state = f":{COLOURS[model.state]}-badge[{states[model.state]}]"
    usual = f" · {words('used unless another one is chosen')}" if default else ""
    st.markdown(f"**{escaped(model.key)}** {state}{usual}")
    lines = [described(model, words)]
    if model.reason:
        lines.append(escaped(model.reason))
    st.caption("  \n".join(lines))


def _figures(visit: Visit) -> None:
    words = visit.words
    st.header(words("Since its start"), anchor=False)
    try:
        found = samples(visit.client.metrics())
    except ServiceError:
        # On a port of its own, behind a key, or away: the state above says which.
        st.caption(words("The service does not show its figures to this page."))
        return
    _requests(found, words)
    rows = _queues(found, words)
    if rows:
        st.table(rows, hide_index=True, border="horizontal")
    st.caption(words("These figures are read again every {n} seconds.", n=int(EVERY_S)))


def _requests(found: list[Sample], words: Words) -> None:
    statuses = by(found, "http_requests_total", "status", route="/predict")
    good = sum(count for status, count in statuses.items() if status.startswith("2"))
    refused = sum(count for status, count in statuses.items() if status.startswith("4"))
    failed = sum(count for status, count in statuses.items() if status.startswith("5"))
    half = quantile(found, "http_request_duration_seconds", 0.5, route="/predict")
    most = quantile(found, "http_request_duration_seconds", 0.99, route="/predict")
    restarts = total(found, "resnet_worker_restarts_total") + total(
        found, "resnet_decoder_restarts_total"
    )
    figures = {
        words("Pictures answered"): words.number(good),
        words("Refused"): words.number(refused),
        words("Failed"): words.number(failed),
        words("Restarts"): words.number(restarts),
    }
    if half is not None and most is not None:
        figures[words("Half are faster than")] = words.milliseconds(half * 1000)
        figures[words("99 of 100 are faster than")] = words.milliseconds(most * 1000)
    with st.container(horizontal=True, gap="large"):
        for name, value in figures.items():
            st.metric(name, value, width="content")


def _queues(found: list[Sample], words: Words) -> list[dict[str, Any]]:
    most = {
        (each.labels.get("model"), each.labels.get("version")): each.value
        for each in found
        if each.name == "resnet_queue_max_images"
    }
    return [
        {
            words("Model"): f"{each.labels.get('model')} v{each.labels.get('version')}",
            words("Waiting now"): words.number(each.value),
            words("At most"): words.number(
                most.get((each.labels.get("model"), each.labels.get("version")), 0)
            ),
            words("Restarts"): words.number(
                total(
                    found,
                    "resnet_worker_restarts_total",
                    model=each.labels.get("model", ""),
                    version=each.labels.get("version", ""),
                )
            ),
        }
        for each in found
        if each.name == "resnet_queue_images"
    ]
