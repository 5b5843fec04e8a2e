"""One picture, several models: labels as rows, models as columns, one scale."""

from __future__ import annotations

from functools import partial
from typing import Any

import streamlit as st

from frontend.cards import Card, Compared, Comparison, ModelComparison
from frontend.choice import (
    InputImage,
    chosen,
    option,
    set_option,
    unknown_models,
    write_address,
)
from frontend.responses import ModelSummary
from frontend.views import classify, picture
from frontend.visit import Visit, try_again
from frontend.words import Words

KEY = "compare"
BEST = 5  # labels of each model that get a row
ROWS = 8
MOST = 4  # models at first
ASKED = 100  # labels of each model, so that the others' best ones are among them
CHANCE = 0.05  # of a difference by chance, below which it is called one


def draw(visit: Visit) -> None:
    """Draw the view, as Classify does."""
    words, image, place = visit.words, chosen(), st.container()
    trouble = visit.trouble()
    if trouble is not None:
        with place:
            picture.draw(KEY, image, words, picture.trouble_panel(trouble, image, words))
        try_again(visit, trouble.wait_s)
        return
    models, heat, missing = _options(visit)
    write_address(
        {
            "models": option("models"),
            "sample": image.sample.name if image is not None and image.sample else "",
            "lang": option("lang"),
        }
    )
    with place:
        picture.notice(missing, words)
        if image is None:
            picture.draw(KEY, None, words, picture.empty_panel(words))
        elif len(models) < 2:
            few = {"state": "empty", "title": words("Pick two models or more")}
            picture.draw(KEY, image, words, few, kind="compare")
        else:
            _compared(visit, image, models, heat=heat)


def _options(visit: Visit) -> tuple[list[ModelSummary], bool, list[str]]:
    """The models, whether heat maps are wanted, and the unknown models of a link."""
    words = visit.words
    by_key = {model.key: model for model in visit.ready}
    asked = [name.replace("@", " v") for name in option("models").split(",") if name]
    usual = _comparable(visit.ready)
    default = [key for key in asked if key in by_key] or usual
    picked = st.pills(words("Models"), list(by_key), selection_mode="multi", default=default)
    heat = st.toggle(words("Show where each looked"))
    models = [by_key[key] for key in by_key if key in picked]
    missing = unknown_models(
        KEY, [key for key in asked if key not in by_key], changed=set(picked) != set(default)
    )
    if asked or picked != usual:
        set_option("models", ",".join(f"{model.name}@{model.version}" for model in models))
    return models, heat, missing


def _comparable(models: list[ModelSummary]) -> list[str]:
    """The largest group that knows equally many things, so that its answers can be compared."""
    groups: dict[int | None, list[str]] = {}
    for model in models:
        groups.setdefault(model.classes, []).append(model.key)
    largest = max(groups.values(), key=len)
    return (largest if len(largest) > 1 else [model.key for model in models])[:MOST]


def _compared(visit: Visit, image: InputImage, models: list[ModelSummary], *, heat: bool) -> None:
    words = visit.words
    named = ",".join(f"{model.name}@{model.version}" for model in models)
    top_k = min([ASKED, *(model.classes or ASKED for model in models)])
    key = f"compare {image.digest} {named}"
    found = picture.answer(
        key,
        words,
        lambda: visit.client.compare(image.data, models=named, top_k=top_k),
        lambda: picture.draw(KEY, image, words, picture.waiting_panel(words), kind="compare"),
    )
    if isinstance(found, Comparison):
        cards = {model.key: visit.card(model) for model in models}
        shown = panel(found, models, cards, words)
        if heat:
            shown["heatmaps"] = _heatmaps(visit, image, found)
        picture.draw(KEY, image, words, shown, accepted=True, kind="compare")
        return
    picture.unanswered(KEY, image, found, words)
    if found.about == "wait":
        try_again(visit, found.wait_s, then=partial(picture.forget_failure, key))


def panel(
    found: Comparison,
    models: list[ModelSummary],
    cards: dict[str, Card | None],
    words: Words,
) -> dict[str, Any]:
    """The comparison as the component draws it."""
    answers = found.answers
    by_key = {model.key: model for model in models}
    return {
        **_headline(found, cards, words),
        "caption": words("Scores of each model"),
        "models": [
            {
                "name": each.key,
                "accuracy": _accuracy(by_key.get(each.key), cards, words),
                "doubt": words("not sure") if each.uncertain else "",
            }
            for each in answers
        ],
        "rows": _rows(answers, words),
        "foot": [
            {
                "label": words("time"),
                "cells": [words.milliseconds(each.timing_ms.inference) for each in answers],
            }
        ],
        "notes": _notes(found, cards, words),
    }


def _headline(found: Comparison, cards: dict[str, Card | None], words: Words) -> dict[str, str]:
    answers = found.answers
    if len(answers) < 2:
        return {"state": "empty", "title": words("There is nothing to compare")}
    labels = list(dict.fromkeys(each.predictions[0].label for each in answers))
    if len(labels) == 1:
        title = (
            words("Both say {label}", label=labels[0])
            if len(answers) == 2
            else words("All {n} say {label}", n=len(answers), label=labels[0])
        )
        return {"state": "answer", "title": title, "text": _doubt(answers, words)}
    said = [
        words.count(
            "{models} says **{label}**",
            "{models} say **{label}**",
            len(keys),
            models=words.several(keys),
            label=label,
        )
        for label in labels
        for keys in [[a.key for a in answers if a.predictions[0].label == label]]
    ]
    text = f"{', '.join(said)}. {_doubt(answers, words)}".strip()
    if not found.agreement.comparable:
        # "Cat" and "Egyptian cat" may both be right.
        return {"state": "unsure", "title": words("They know different things"), "text": text}
    pair = _pair(answers, cards)
    if pair is not None and pair.right_when_disagree is not None:
        text += " " + words(
            "Where these two disagree, the first is right in {one} of the test pictures and the "
            "second in {other}.",
            one=words.percent(pair.right_when_disagree[0], 0),
            other=words.percent(pair.right_when_disagree[1], 0),
        )
    return {"state": "unsure", "title": words("They disagree"), "text": text}


def _doubt(answers: list[Compared], words: Words) -> str:
    """Which models are not sure, as their columns say too; empty if none is."""
    unsure = [each.key for each in answers if each.uncertain]
    if not unsure:
        return ""
    return words.count(
        "{models} is not sure.",
        "{models} are not sure.",
        len(unsure),
        models=words.several(unsure),
    )


def _pair(answers: list[Compared], cards: dict[str, Card | None]) -> ModelComparison | None:
    """What the first model's card says about the second one, of two."""
    if len(answers) != 2:
        return None
    card, other = cards.get(answers[0].key), answers[1].model
    names = {other.name, f"{other.name}@{other.version}", answers[1].key}
    return next((each for each in (card.comparisons if card else []) if each.model in names), None)


def _rows(answers: list[Compared], words: Words) -> list[dict[str, Any]]:
    scores = [{each.label: each.score for each in a.predictions} for a in answers]
    best = {each.label for a in answers for each in a.predictions[:BEST]}
    ordered = sorted(best, key=lambda label: -max(each.get(label, 0.0) for each in scores))
    return [
        {
            "label": label,
            "cells": [
                {"score": each[label], "text": words.percent(each[label])}
                if label in each
                else None
                for each in scores
            ],
        }
        for label in ordered[:ROWS]
    ]


def _accuracy(model: ModelSummary | None, cards: dict[str, Card | None], words: Words) -> str:
    card = cards.get(model.key) if model else None
    tested = card.tested if card else None
    if tested is not None and tested.interval_95 is not None:
        low, high = tested.interval_95
        return words(
            "right for {share} ({low} to {high})",
            share=words.percent(tested.accuracy),
            low=words.number(low * 100, 1),
            high=words.number(high * 100, 1),
        )
    if model is None or model.accuracy is None:
        return ""
    return words("right for {share}", share=words.percent(model.accuracy))


def _notes(found: Comparison, cards: dict[str, Card | None], words: Words) -> list[str]:
    notes = []
    pair = _pair(found.answers, cards)
    if pair is not None and pair.p_value is not None:
        chance = words(
            "On {n} test pictures their accuracies do not differ beyond chance.",
            n=words.number(pair.samples),
        )
        real = words(
            "On {n} test pictures their accuracies differ by more than chance.",
            n=words.number(pair.samples),
        )
        notes.append(chance if pair.p_value >= CHANCE else real)
    if found.divergences and len(found.answers) == 2:
        bits = words.number(found.divergences[0].jensen_shannon, 2)
        notes.append(
            words(
                "Their scores lie {bits} apart: 0 is the same, 1 has nothing in common.", bits=bits
            )
        )
    notes += [
        words("{model} gave no answer.", model=each.model.name)
        for each in found.results
        if not isinstance(each, Compared)
    ]
    return notes


def _heatmaps(visit: Visit, image: InputImage, found: Comparison) -> list[dict[str, Any]]:
    maps = []
    for each in found.answers:
        key = f"heat {image.digest} {each.model.name} {each.model.version}"
        query: dict[str, str | int] = {"model": each.model.name, "version": each.model.version}
        explained = classify.explain(visit, image, query, key)
        if explained is not None:
            maps.append(
                {
                    "name": f"{each.key}: {explained.label}",
                    "heat": explained.heatmap.model_dump(),
                    "seen": explained.seen.model_dump(),
                }
            )
    return maps
