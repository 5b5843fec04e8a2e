"""From a response to the sentences beside the picture: pure functions, without Streamlit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from frontend.cards import Card
from frontend.client import TimedPrediction
from frontend.image import operation_text, stored_as
from frontend.responses import Prediction, PredictionSet, Seen
from frontend.words import Words

FEW = 20  # classes; of so many all scores are asked for and all names are listed
EXAMPLES = 3  # names of a model that knows more


def panel(
    timed: TimedPrediction,
    *,
    size: int,
    shown: int,
    labels: Sequence[str],
    card: Card | None,
    words: Words,
) -> dict[str, Any]:
    """The answer as the component draws it.

    Args:
        timed: the response.
        size: of the file, in bytes.
        shown: how many labels get a bar.
        labels: all that the model knows; empty if the service does not tell.
        card: of the model, or None.
        words: the visitor's language.
    """
    response = timed.response
    best = response.predictions[0]
    right = card.right_of_100(best.score) if card else None
    counted = bool(card and card.tested and card.tested.reliability)
    return {
        **_headline(best, response.uncertain, response.uncertain_reason, right, words),
        "bars": bars(response.predictions, shown, len(labels), words),
        "meaning": _meaning(right, words, counted=counted),
        "set": _set(response.prediction_set, words),
        "knows": knows(labels, words),
        "summary": _summary(timed, card, words),
        "details": _details(timed, size, words),
    }


def _headline(
    best: Prediction, uncertain: bool | None, reason: str | None, right: int | None, words: Words
) -> dict[str, str]:
    score = words.percent(best.score)
    if not uncertain:
        sure = f" · {_sure(right, words)}" if right is not None else ""
        return {"state": "answer", "title": best.label, "text": f"**{score}**{sure}"}
    if reason == "none_of_the_classes":
        text = words(
            "Nothing that this model knows fits well. The closest is **{label}**, with {score}.",
            label=best.label,
            score=score,
        )
    else:
        text = words(
            "Several answers fit. The closest is **{label}**, with only {score}.",
            label=best.label,
            score=score,
        )
    return {"state": "unsure", "title": words("Not sure"), "text": text}


def _sure(right: int, words: Words) -> str:
    # By what was measured, not by what the score claims.
    if right >= 97:
        return words("very sure")
    if right >= 85:
        return words("quite sure")
    return words("fairly sure") if right >= 60 else words("a guess")


def _meaning(right: int | None, words: Words, *, counted: bool) -> str:
    if right is None:
        few = words("Too few test pictures had such a score to say how often it is right.")
        return few if counted else ""
    return words(
        "Of 100 test pictures with this score, about {right} are right. Pictures from elsewhere "
        "do worse.",
        right=right,
    )


def _set(found: PredictionSet | None, words: Words) -> str:
    """The labels of a prediction set in a sentence; empty if none was asked for."""
    if found is None:
        return ""
    share = words.percent(found.coverage, 0)
    if not found.labels:
        return words("For {share} no label is likely enough.", share=share)
    names = [each.label for each in found.labels[:FEW]]
    if others := len(found.labels) - len(names):
        names.append(words.count("{n} other", "{n} others", others))
    if len(names) == 1:
        said = words(
            "In {share} of the cases the right label is this one: {name}.",
            share=share,
            name=names[0],
        )
    else:
        said = words(
            "In {share} of the cases the right label is one of these {n}: {names}.",
            share=share,
            n=words.number(len(found.labels)),
            names=", ".join(names),
        )
    measured = words(
        "For {n} test pictures it was so in {share}.",
        n=words.number(found.samples),
        share=words.percent(found.measured_coverage),
    )
    return f"{said} {measured}"


def bars(
    predictions: Sequence[Prediction], shown: int, classes: int, words: Words
) -> list[dict[str, Any]]:
    """Bars on a scale of 0 to 100 %, best first, and one for all other labels together."""
    rows = [
        {
            "label": each.label,
            "score": each.score,
            "text": words.percent(each.score),
            "kind": "best" if each.rank == 1 else "other",
        }
        for each in predictions[:shown]
    ]
    rest = max(0.0, 1.0 - sum(each.score for each in predictions[:shown]))
    others = classes - len(rows)
    if others > 0:
        rows.append(
            {
                "label": words.count("{n} other", "{n} others", others),
                "score": rest,
                "text": words.percent(rest),
                "kind": "others",
            }
        )
    return rows


def knows(labels: Sequence[str], words: Words) -> str:
    """What the model can say at all."""
    if not labels:
        return ""
    always = words("It always picks one of them, whatever the picture shows.")
    if len(labels) <= FEW:
        names = ", ".join(labels)
        known = words.count(
            "This model knows {n} thing:", "This model knows {n} things:", len(labels)
        )
        return f"{known} {names}. {always}"
    step = len(labels) // EXAMPLES
    names = ", ".join(labels[step // 2 :: step][:EXAMPLES])
    known = words(
        "This model knows {n} things, among them {names}.",
        n=words.number(len(labels)),
        names=names,
    )
    return f"{known} {always}"


def input_size(seen: Seen, words: Words) -> str:
    """How many pixels the model gets."""
    return words("{width} by {height} pixels", width=seen.input_width, height=seen.input_height)


def _summary(timed: TimedPrediction, card: Card | None, words: Words) -> str:
    model = timed.response.model
    parts = [words.milliseconds(timed.response.timing_ms.total), f"{model.name} v{model.version}"]
    tested = card.tested if card else None
    if tested is not None:
        right = words(
            "right for {share} of {n} test pictures",
            share=words.percent(tested.accuracy),
            n=words.number(tested.samples),
        )
        parts.append(right)
    return " · ".join(parts)


def _details(timed: TimedPrediction, size: int, words: Words) -> list[tuple[str, str]]:
    response, timing = timed.response, timed.response.timing_ms
    seen = response.seen
    steps = [operation_text(each, words) for each in response.image.operations]
    rows = [
        (words("Picture"), stored_as(size, response.image, words)),
        (words("Read as"), ", ".join(steps)),
        (
            words("Model's input"),
            input_size(seen, words) if seen is not None else "",
        ),
        (
            words("Runs on"),
            f"{response.model.runtime} {response.model.precision}, {response.model.device}",
        ),
        (words("Decoding"), words.milliseconds(timing.decode)),
        (words("Waiting"), words.milliseconds(timing.queue)),
        (words("Network"), words.milliseconds(timing.inference)),
        (words("In the service"), words.milliseconds(timing.total)),
        (words("Until it was here"), words.milliseconds(timed.round_trip_ms)),
        (words("Request"), response.request_id),
    ]
    return [(name, value) for name, value in rows if value]
