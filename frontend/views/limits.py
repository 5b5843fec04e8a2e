"""The limits of a model's card in the visitor's language; bundles have them in English."""

from __future__ import annotations

from frontend.words import Words


def translated(limit: str, words: Words) -> str:
    """A limit that `bundle evaluate` writes, or a shipped model has; others stay as they are."""
    known = (
        words.match("It knows {n} labels and answers with one of them, whatever is shown.", limit),
        words.match(
            "Measured on images of {measured} of its {n} labels; of the others nothing is known "
            "here.",
            limit,
        ),
        words.match("When it is unsure was not measured: there were too few images.", limit),
        words.match("Of its right answers {right}% are called unsure.", limit),
        words.match(
            "Of its right answers {right}% are called unsure, and of pictures that show none of "
            "the labels {others}%: the others get a wrong answer that is not called unsure.",
            limit,
        ),
        words.match(
            "It was trained on pictures of {width} x {height} pixels, and sees every photo at that "
            "size: of larger photos of its classes it recognises fewer (about {share} % of {n}).",
            limit,
        ),
        words.match(
            "Its publisher states an accuracy of {share} % on all {n} labels; what is measured "
            "here is of ten of them, and thresholds and prediction sets rest on these.",
            limit,
        ),
    )
    return next(filter(None, known), limit)
