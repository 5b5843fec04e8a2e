"""The pictures that are shown: filters, order, pages, accuracy, and downloads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import streamlit as st

from frontend import components
from frontend.messages import escaped
from frontend.views.collection import (
    Picture,
    accuracy,
    as_csv,
    as_json,
    confusions,
    other_folders,
)
from frontend.views.picture import data_url
from frontend.words import Words

PER_PAGE = 48
LABELS = 8  # most frequent ones that get a filter
CONFUSIONS = 10
FOLDERS = 5  # names of folders that were not taken as labels


def draw(
    pictures: list[Picture],
    labels: Sequence[str],
    words: Words,
    opened: Callable[[dict[str, Any]], None],
) -> None:
    """Draw all about pictures that are answered; `opened` gets the file of one that is clicked."""
    if not pictures:
        return
    _accuracy(pictures, labels, words)
    kept = _filtered(pictures, words)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        ordered = _ordered(kept, words)
        st.space("stretch")
        _downloads(pictures, words)
    pages = -(-len(ordered) // PER_PAGE)
    place = st.container()
    page = st.pagination(pages, key="many-page") if pages > 1 else 1
    with place:
        grid(ordered[(page - 1) * PER_PAGE : page * PER_PAGE], words, opened)


def grid(pictures: list[Picture], words: Words, opened: Callable[[dict[str, Any]], None]) -> None:
    """Draw thumbnails with their answers."""
    data = {"pictures": [_tile(each, words) for each in pictures]}
    components.grid("many-grid", data, open=opened)


def _tile(each: Picture, words: Words) -> dict[str, str]:
    kind, label, text, note = "", each.label, words.percent(each.score), ""
    if each.refused:
        kind, label, text, note = "refused", words("refused"), "", each.refused
    elif each.wrong:
        kind, note = "wrong", words("folder: {label}", label=each.truth)
    elif each.uncertain:
        kind, label = "unsure", words("not sure")
        note = words("closest: {label}", label=each.label)
    if each.disagree:
        note = words("other model: {label}", label=each.other)
    return {
        "path": each.path,
        "src": data_url(each.thumbnail) if each.thumbnail else "",
        "label": label,
        "text": text,
        "kind": kind,
        "note": note,
    }


def _filtered(pictures: list[Picture], words: Words) -> list[Picture]:
    tests: dict[str, Callable[[Picture], bool]] = {
        words("all"): lambda _: True,
        words("not sure"): lambda each: bool(each.uncertain),
        words("wrong"): lambda each: each.wrong,
        words("models disagree"): lambda each: each.disagree,
        words("near-duplicates"): lambda each: each.copies > 0,
        words("refused"): lambda each: bool(each.refused),
    }
    for label, count in Counter(each.label for each in pictures if each.label).most_common(LABELS):
        if count == 1 and len(pictures) > LABELS:
            break  # a filter for each single picture filters nothing
        tests.setdefault(label, partial(_has_label, label))
    counts = {name: sum(map(test, pictures)) for name, test in tests.items()}
    names = [name for name, count in counts.items() if count]
    chosen = st.pills(
        words("Show"),
        names,
        default=names[0],
        format_func=lambda name: f"{name} {words.number(counts[name])}",
        key="many-filter",
    )
    return list(filter(tests.get(chosen or names[0], tests[names[0]]), pictures))


def _has_label(label: str, each: Picture) -> bool:
    return each.label == label


def _ordered(pictures: list[Picture], words: Words) -> list[Picture]:
    orders: dict[str, Callable[[Picture], tuple[float, ...]]] = {
        words("as they came"): lambda _: (),
        words("least sure first"): lambda each: (each.score,),
        words("most sure first"): lambda each: (-each.score,),
    }
    if any(each.wrong for each in pictures):
        orders[words("worst first")] = lambda each: (not each.wrong, -each.score)
    if any(each.copies for each in pictures):
        orders[words("near-duplicates together")] = lambda each: (not each.copies, each.copies)
    order = st.selectbox(words("Order"), list(orders), width=260)
    return sorted(pictures, key=orders[order])


def _accuracy(pictures: list[Picture], labels: Sequence[str], words: Words) -> None:
    if not labels:
        return
    _accuracy_of(pictures, words)
    others = other_folders(pictures)
    if others:
        names = [f"“{escaped(name)}”" for name in others[:FOLDERS]]
        if len(others) > FOLDERS:
            left = len(others) - FOLDERS
            names.append(words.count("{n} other", "{n} others", left))
        st.caption(
            words.count(
                "This folder is not named like a label of the model, so it says nothing about "
                "what is right: {names}.",
                "These folders are not named like a label of the model, so they say nothing about "
                "what is right: {names}.",
                len(others),
                names=words.several(names),
            )
        )


def _accuracy_of(pictures: list[Picture], words: Words) -> None:
    found = accuracy(pictures)
    if found is None:
        return
    st.markdown(
        words(
            "**{share} right**: {right} of {n} whose folder is named like a label "
            "(in 95 of 100 such samples between {low} and {high})",
            share=words.percent(found.right / found.samples),
            right=words.number(found.right),
            n=words.number(found.samples),
            low=words.percent(found.low),
            high=words.percent(found.high),
        )
    )
    rows = confusions(pictures)
    if rows:
        with st.expander(words("What is taken for what")):
            columns = (words("folder"), words("answer"), words("pictures"))
            st.table(
                [dict(zip(columns, row, strict=True)) for row in rows[:CONFUSIONS]],
                hide_index=True,
                border="horizontal",
            )


def _downloads(pictures: list[Picture], words: Words) -> None:
    for name, make, mime in (
        ("CSV", as_csv, "text/csv"),
        ("JSON", as_json, "application/json"),
    ):
        st.download_button(
            words("Download {kind}", kind=name),
            make(pictures),
            file_name=f"pictures.{name.lower()}",
            mime=mime,
            on_click="ignore",
        )
