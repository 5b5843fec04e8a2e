"""One picture, one model: the answer first, then what it means and how to go on."""

from __future__ import annotations

from functools import partial
from typing import Any

import streamlit as st

from frontend.choice import (
    InputImage,
    chosen,
    option,
    set_option,
    unknown_models,
    write_address,
)
from frontend.client import TimedPrediction
from frontend.errors import Refused, ServiceError
from frontend.messages import message
from frontend.responses import Explanation, ModelSummary
from frontend.views import answer, dialogs, picture
from frontend.visit import Visit, described, is_kept, kept, try_again

KEY = "classify"
TOP_K = 5  # labels shown at first
VIEWS = ("picture", "seen", "heat")
WHOLE = "whole"
COVERAGES = (0.8, 0.9, 0.95, 0.99)  # of a prediction set, as far as they were measured


def draw(visit: Visit) -> None:
    """Draw the view; a new picture is drawn at once, and its answer as soon as it is there."""
    image = chosen()
    place = st.container()
    trouble = visit.trouble()
    if trouble is not None:
        with place:
            panel = picture.trouble_panel(trouble, image, visit.words)
            picture.draw(KEY, image, visit.words, panel)
        try_again(visit, trouble.wait_s)
        return
    model, shown, asked, missing = _options(visit)
    _address(image)
    with place:
        picture.notice(missing, visit.words)
        if image is None:
            picture.draw(KEY, None, visit.words, picture.empty_panel(visit.words))
        else:
            _answered(visit, image, model, shown, asked)


def _answered(
    visit: Visit, image: InputImage, model: ModelSummary, shown: int, asked: dict[str, str]
) -> None:
    words = visit.words
    query: dict[str, str | int] = {
        "model": model.name,
        "version": model.version,
        "top_k": _asked(model, shown),
        **asked,
    }
    key = f"answer {image.digest} {query}"
    found = picture.answer(
        key,
        words,
        lambda: visit.client.predict(image.data, **query),
        lambda: picture.draw(KEY, image, words, picture.waiting_panel(words)),
    )
    if isinstance(found, TimedPrediction):
        _shown(visit, image, model, found, shown, query)
        return
    picture.unanswered(KEY, image, found, words)
    if found.about != "picture":
        try_again(visit, found.wait_s, then=partial(picture.forget_failure, key))


def _shown(
    visit: Visit,
    image: InputImage,
    model: ModelSummary,
    timed: TimedPrediction,
    shown: int,
    query: dict[str, str | int],
) -> None:
    record = visit.record(model)
    labels = (record.labels if record else None) or []
    panel = answer.panel(
        timed,
        size=len(image.data),
        shown=shown,
        labels=labels,
        card=visit.card(model),
        words=visit.words,
    )
    panel["actions"] = _actions(visit, timed.response.request_id)
    views = _views(visit, image, timed, query)
    picture.draw(KEY, image, visit.words, panel, accepted=True, act=_act, **views)
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
    if "crop" in query:  # heat maps are of the model's own crop
        view = "seen" if option("view") == "seen" else "picture"
        return {"view": view, "views": views, "seen": seen.model_dump(), "heat": None}
    key = f"heat {image.digest} {query['model']} {query['version']}"
    explained = explain(visit, image, query, key) if option("view") == "heat" else None
    if not is_kept(key) or explained is not None:
        views["heat"] = words("Where it looked")
    view = option("view", "picture")
    if view == "heat" and explained is None:
        view = "picture"
    return {
        "view": view if view in views else "picture",
        "views": views,
        "seen": seen.model_dump(),
        "heat": explained.heatmap.model_dump() if explained else None,
    }


def explain(
    visit: Visit, image: InputImage, query: dict[str, str | int], key: str
) -> Explanation | None:
    """Where the model looked, kept as `key`; None without a heat map, and during an outage."""

    def ask() -> Explanation | None:
        try:
            return visit.client.explain(image.data, model=query["model"], version=query["version"])
        except Refused as exc:
            if exc.problem.status in (404, 405, 422):
                return None  # an older service, or a network without a heat map: for good
            raise

    try:
        return kept(key, ask)
    except ServiceError as exc:
        # The answer stands; the switch is still there, to try again.
        st.toast(message(exc, visit.words).title)
        return None


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


def _act(action: str) -> None:
    st.session_state["dialog"] = action


def _address(image: InputImage | None) -> None:
    write_address(
        {
            "model": option("model"),
            "version": option("version"),
            # A picture of the visitor is not kept, so no link has it.
            "sample": image.sample.name if image is not None and image.sample else "",
            "view": option("view") if option("view") in VIEWS[1:] else "",
            "crop": option("crop"),
            "coverage": option("coverage"),
            "lang": option("lang"),
        }
    )


def _options(visit: Visit) -> tuple[ModelSummary, int, dict[str, str], list[str]]:
    """The model, the number of labels, what else is asked of the service, and unknown models.

    They stand below the answer.
    """
    words = visit.words
    by_key = {model.key: model for model in visit.ready}
    asked = f"{option('model')} v{option('version')}".removesuffix(" v")
    named = [each for each in by_key if asked in (each, each.rpartition(" v")[0])]
    default = next(iter([*named, *by_key]))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        key = st.selectbox(
            words("Model"),
            list(by_key),
            index=list(by_key).index(default),
            width=340,
        )
        model = by_key[key]
        classes = model.classes or TOP_K
        shown = st.number_input(
            words("Labels"), 1, min(classes, 50), min(TOP_K, classes), step=1, width=140
        )
        asked_for = _coverage(visit, model)
    missing = unknown_models(KEY, [] if named or not asked else [asked], changed=key != default)
    if asked or key != next(iter(by_key)):
        set_option("model", model.name)
        set_option("version", str(model.version))
    st.caption(described(model, words))
    return model, int(shown), asked_for | _whole(visit, model), missing


def _coverage(visit: Visit, model: ModelSummary) -> dict[str, str]:
    """How often a prediction set shall hold the right label, where sets were measured."""
    card, words = visit.card(model), visit.words
    measured = {each.coverage for each in card.conformal.sets} if card and card.conformal else ()
    offered = ["", *(f"{each:g}" for each in COVERAGES if each in measured)]
    if len(offered) == 1:
        return {}
    wanted = option("coverage")
    chosen = st.selectbox(
        words("Set of labels"),
        offered,
        index=offered.index(wanted) if wanted in offered else 0,
        format_func=lambda each: words.percent(float(each), 0) if each else words("off"),
        help=words(
            "All labels that may be right, so many that the right one is among them in this share "
            "of the cases: on average, for pictures like the test pictures."
        ),
        width=140,
    )
    set_option("coverage", chosen)
    return {"coverage": chosen} if chosen else {}


def _whole(visit: Visit, model: ModelSummary) -> dict[str, str]:
    """Whether the whole picture counts; asked for where the model was measured with it."""
    record = visit.record(model)
    if record is None or record.whole is None:
        return {}
    words, measured = visit.words, record.whole
    chosen = st.toggle(
        words("Use the whole picture"),
        value=option("crop") == WHOLE,
        help=words(
            "It is squeezed into a square. On test pictures the model is right for {whole} of "
            "them so, and for {crop} with the middle alone.",
            whole=words.percent(measured.accuracy),
            crop=words.percent(measured.accuracy_of_crop),
        ),
    )
    set_option("crop", WHOLE if chosen else "")
    return {"crop": WHOLE} if chosen else {}


def _asked(model: ModelSummary, shown: int) -> int:
    # Of a few classes all scores, so that showing more of them costs no request.
    classes = model.classes or shown
    return classes if classes <= answer.FEW else min(shown, classes)
