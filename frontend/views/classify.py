"""One picture, one model: the answer first, then what it means and how to go on."""

from __future__ import annotations

from functools import partial
from typing import Any

import streamlit as st

from frontend import components
from frontend.choice import (
    InputImage,
    chosen,
    option,
    set_option,
    take_file,
    take_sample,
    write_address,
)
from frontend.client import TimedPrediction
from frontend.errors import Refused, ServiceError
from frontend.messages import Message, message
from frontend.responses import Explanation, ModelSummary
from frontend.views import answer, dialogs, picture
from frontend.visit import Visit, described, is_kept, kept, try_again

KEY = "classify"
TOP_K = 5  # labels shown at first
CROSSED = ("picture", "seen", "heat")


def draw(visit: Visit) -> None:
    """Draw the view; a new picture is drawn at once, and its answer as soon as it is there."""
    image = chosen()
    place = st.container()
    trouble = visit.trouble()
    if trouble is not None:
        with place:
            _scene(visit, image, {}, _troubled(trouble))
        try_again(visit, trouble.wait_s)
        return
    model, shown = _options(visit)
    with place:
        if image is None:
            _scene(visit, None, {}, _empty(visit))
        else:
            _answered(visit, image, model, shown)


def _answered(visit: Visit, image: InputImage, model: ModelSummary, shown: int) -> None:
    query = {"model": model.name, "version": model.version, "top_k": _asked(model, shown)}
    key = f"answer {image.digest} {sorted(query.items())}"
    failed: dict[str, Message] = st.session_state.setdefault("failed", {})
    if key in failed:
        _failed(visit, image, key, failed[key])
        return
    if not is_kept(key):
        # The picture is drawn now, and the answer in the run after this one.
        _scene(visit, image, {}, {"state": "waiting", "title": visit.words("Looking at it …")})
        try:
            kept(key, lambda: visit.client.predict(image.data, **query))
        except ServiceError as exc:
            failed.clear()
            failed[key] = message(exc, visit.words)
        st.rerun()
    timed = kept(key, lambda: visit.client.predict(image.data, **query))
    _shown(visit, image, model, timed, shown, query)


def _shown(
    visit: Visit,
    image: InputImage,
    model: ModelSummary,
    timed: TimedPrediction,
    shown: int,
    query: dict[str, str | int],
) -> None:
    record = visit.record(model)
    panel = answer.panel(
        timed,
        size=len(image.data),
        shown=shown,
        labels=(record.labels if record else None) or [],
        card=visit.card(model),
        words=visit.words,
    )
    request_id = timed.response.request_id
    panel["actions"] = _actions(visit, request_id)
    extra = _views(visit, image, timed, query)
    _scene(visit, image, extra, panel, accepted=True)
    labels = (record.labels if record else None) or []
    wanted = st.session_state.pop("dialog", None)
    if wanted == "code":
        dialogs.code(visit, image, query)
    elif wanted == "wrong":
        dialogs.wrong(visit, timed, labels)
    elif wanted == "right":
        dialogs.send(visit, timed, right=True, label=None)
        st.rerun()


def _views(
    visit: Visit, image: InputImage, timed: TimedPrediction, query: dict[str, str | int]
) -> dict[str, Any]:
    """The views of the picture that the service can give, and the one that is on."""
    seen = timed.response.seen
    if seen is None:
        return {}
    words = visit.words
    views = {"picture": words("Picture"), "seen": words("What it sees")}
    key = f"heat {image.digest} {query['model']} {query['version']}"
    explained: Explanation | None = None
    if option("view") == "heat":
        explained = kept(key, lambda: _explained(visit, image, query))
    if not is_kept(key) or explained is not None:
        views["heat"] = words("Where it looked")
    view = option("view", "picture")
    return {
        "view": view if view in views else "picture",
        "views": views,
        "seen": seen.model_dump(),
        "heat": explained.heatmap.model_dump() if explained else None,
    }


def _explained(visit: Visit, image: InputImage, query: dict[str, str | int]) -> Explanation | None:
    try:
        return visit.client.explain(image.data, model=query["model"], version=query["version"])
    except Refused as exc:
        if exc.problem.status in (404, 405, 422):
            # An older service, or a model without a heat map: the view is not offered any more.
            return None
        raise


def _actions(visit: Visit, request_id: str) -> list[dict[str, str]]:
    words = visit.words
    actions = [
        {"id": "link", "label": words("Copy link")},
        {"id": "code", "label": words("Use it from code")},
    ]
    if request_id not in st.session_state.get("said", ()) and visit.takes_feedback():
        actions = [
            {"id": "right", "label": words("That is right")},
            {"id": "wrong", "label": words("Wrong: it is …")},
            *actions,
        ]
    return actions


def _failed(visit: Visit, image: InputImage, key: str, trouble: Message) -> None:
    failed = st.session_state["failed"]
    if trouble.about == "picture":
        _scene(visit, image, {"refusal": picture.refusal(trouble)}, _empty(visit))
        return
    _scene(visit, image, {}, _troubled(trouble))
    try_again(visit, trouble.wait_s, then=partial(failed.pop, key, None))


def _troubled(trouble: Message) -> dict[str, Any]:
    return {"state": "trouble", "title": trouble.title, "text": trouble.advice}


def _empty(visit: Visit) -> dict[str, Any]:
    words = visit.words
    return {
        "state": "empty",
        "title": words("No picture"),
        "text": words("Choose another picture, or a sample."),
    }


def _scene(
    visit: Visit,
    image: InputImage | None,
    extra: dict[str, Any],
    panel: dict[str, Any],
    *,
    accepted: bool = False,
) -> None:
    data = picture.shown(image, visit.words, accepted=accepted)
    components.scene(
        KEY,
        {**data, **extra, "panel": panel},
        file=take_file,
        sample=take_sample,
        view=partial(set_option, "view"),
        action=_act,
    )
    write_address(
        {
            "model": option("model"),
            "version": option("version"),
            "sample": image.sample.name if image is not None and image.sample else "",
            "view": option("view") if option("view") in CROSSED[1:] else "",
            "lang": option("lang"),
        }
    )


def _act(action: str) -> None:
    st.session_state["dialog"] = action


def _options(visit: Visit) -> tuple[ModelSummary, int]:
    """The model and the number of labels, chosen below the answer."""
    words = visit.words
    by_key = {model.key: model for model in visit.ready}
    asked = f"{option('model')} v{option('version')}"
    with st.container(horizontal=True, vertical_alignment="bottom"):
        key = st.selectbox(
            words("Model"),
            list(by_key),
            index=list(by_key).index(asked) if asked in by_key else 0,
            width=340,
        )
        model = by_key[key]
        classes = model.classes or TOP_K
        shown = st.number_input(
            words("Labels"), 1, min(classes, 50), min(TOP_K, classes), step=1, width=140
        )
    if asked in by_key or key != next(iter(by_key)):
        set_option("model", model.name)
        set_option("version", str(model.version))
    st.caption(described(model, words))
    return model, int(shown)


def _asked(model: ModelSummary, shown: int) -> int:
    # Of a few classes all scores, so that showing more of them costs no request.
    classes = model.classes or shown
    return classes if classes <= answer.FEW else min(shown, classes)
