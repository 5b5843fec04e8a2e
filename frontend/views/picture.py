"""The picture with its tools, as both Classify and Compare show it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import streamlit as st

from frontend import components, preview
from frontend.choice import (
    MOST_BYTES,
    InputImage,
    serial,
    session,
    set_option,
    take_file,
    take_sample,
    unknown_sample,
)
from frontend.errors import ServiceError
from frontend.messages import Message, escaped, message
from frontend.samples import SAMPLES
from frontend.visit import is_kept, kept
from frontend.words import Words

Value = TypeVar("Value")

THUMBNAIL = 120  # pixels; twice as many as the page gives it, for dense screens


def draw(
    key: str,
    image: InputImage | None,
    words: Words,
    panel: dict[str, Any],
    *,
    accepted: bool = False,
    act: Callable[[str], None] | None = None,
    **extra: Any,
) -> None:
    """Draw the picture, the ways to another one, and `panel` beside it.

    Args:
        key: of the component.
        image: as `shown`.
        words: the visitor's language.
        panel: what stands beside the picture.
        accepted: as `shown`.
        act: called with the id of a button of the panel.
        extra: more data of the component: `kind`, `view`, `views`, `seen`, `heat`, `refusal`.
    """
    if image is not None and accepted:
        st.session_state["accepted"] = image.digest
    elif image is not None:
        # In another view, or before an outage.
        accepted = st.session_state.get("accepted") == image.digest
    components.scene(
        key,
        {**shown(image, words, accepted=accepted), **extra, "panel": panel},
        file=take_file,
        sample=take_sample,
        view=partial(set_option, "view"),
        action=act or (lambda _: None),
    )


def answer(
    key: str, words: Words, ask: Callable[[], Value], waiting: Callable[[], None]
) -> Value | Message:
    """What the service says about a picture, asked once; or why it says nothing.

    The picture is drawn first, by `waiting`; the answer is drawn by the run after that one.
    """
    failed: dict[str, Message] = st.session_state.setdefault("failed", {})
    if key in failed:
        return failed[key]
    if not is_kept(key):
        waiting()
        try:
            kept(key, ask)
        except ServiceError as exc:
            failed.clear()
            failed[key] = message(exc, words)
        st.rerun()
    return kept(key, ask)


def forget_failure(key: str) -> None:
    """Let `answer` ask again."""
    st.session_state.get("failed", {}).pop(key, None)


def trouble_panel(trouble: Message, image: InputImage | None, words: Words) -> dict[str, Any]:
    """Why there is no answer, and what the page does about it and about the visitor's picture."""
    own = image is not None and image.sample is None
    kept = words("Your picture is kept.") if own and trouble.about == "wait" else ""
    text = f"{kept} {trouble.advice}".strip()
    return {"state": "trouble", "title": trouble.title, "text": text}


def empty_panel(words: Words) -> dict[str, Any]:
    """Beside a file that was refused: no answer, not an old one either."""
    return {
        "state": "empty",
        "title": words("No picture"),
        "text": words("Choose another picture, or a sample."),
    }


def waiting_panel(words: Words) -> dict[str, Any]:
    """Until the answer is there."""
    return {"state": "waiting", "title": words("Looking at it …")}


def shown(image: InputImage | None, words: Words, *, accepted: bool) -> dict[str, Any]:
    """What the component needs to draw `image`.

    Args:
        image: the chosen one; None: the browser has refused it and shows why.
        words: the visitor's language.
        accepted: the service has read it, so that its limits hold for the page's own copy too.
    """
    drawn: dict[str, Any] = {
        "kind": "answer",
        "language": words.language,
        "serial": serial(),
        "session": session(),
        "view": "picture",
        "views": {},
        "words": _words(words),
        "samples": [
            {
                "name": sample.name,
                "src": _thumbnail(sample.file),
                "alt": words(sample.alt),
                "chosen": image is not None and image.sample is sample,
            }
            for sample in SAMPLES
        ],
        "most_bytes": MOST_BYTES,
        "hint": words(
            "Drop a picture anywhere. JPEG, PNG, WebP, HEIC, AVIF, GIF, BMP, TIFF; up to {size}. "
            "Pictures are not kept.",
            size=words.file_size(MOST_BYTES),
        ),
    }
    if image is None:
        return drawn
    drawn["alt"] = words(image.sample.alt) if image.sample else image.name
    if accepted or image.sample is not None:
        copy = _preview(image.digest, image.data)
        if copy is None:
            drawn["undrawn"] = words("This picture can't be drawn here. The answer holds.")
        else:
            drawn["src"] = data_url(copy)
    return drawn


def notice(models: list[str], words: Words) -> None:
    """Say that a link has asked for `models`, or for a sample, that are not there."""
    sentences = []
    if models:
        sentences.append(
            words.count(
                "The link names a model that is not ready here: {names}.",
                "The link names models that are not ready here: {names}.",
                len(models),
                names=words.several([escaped(name) for name in models]),
            )
        )
    if sample := unknown_sample():
        sentences.append(
            words("The link names a sample that does not exist: {name}.", name=escaped(sample))
        )
    if sentences:
        sentences.append(words("What is shown instead is in the address now."))
        st.info(" ".join(sentences))


def unanswered(key: str, image: InputImage, trouble: Message, words: Words) -> None:
    """Draw that there is no answer: in place of a picture that is refused, or beside it."""
    if trouble.about == "picture":
        draw(key, image, words, empty_panel(words), refusal=_refusal(trouble))
    else:
        draw(key, image, words, trouble_panel(trouble, image, words))


def _refusal(trouble: Message) -> dict[str, str]:
    """Why a picture was refused, in place of it."""
    return {
        "title": trouble.title,
        "text": trouble.advice,
        "reference": trouble.reference,
    }


def data_url(image: bytes) -> str:
    """A JPEG or PNG file as a `data:` URL."""
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def _words(words: Words) -> dict[str, str]:
    return {
        "title": words("What is in this picture?"),
        "skip": words("Skip to the answer"),
        "panel": words("Answer"),
        "drop": words("Drop a picture here, choose one, or take a sample."),
        "drawn_later": words("This kind of picture is drawn here with its answer."),
        "crop": words("The model saw this part"),
        "seen": words("what the model sees"),
        "heat": words("Where the model looked is bright, the rest is dark"),
        "switch": words("Show"),
        "choose": words("Choose …"),
        "camera": words("Camera"),
        "paste": words("Paste"),
        "take": words("Take the picture"),
        "cancel": words("Cancel"),
        "photo": words("photo"),
        "pasted": words("pasted"),
        "no_camera": words("There is no camera, or this page may not use it."),
        "nothing_to_paste": words("There is no picture to paste: copy one first."),
        "paste_by_keys": words("Press Ctrl+V, on a Mac ⌘V: the picture is taken from there."),
        "sending": words("Sending the picture …"),
        "no_picture": words("No picture"),
        "another": words("Choose another picture, or a sample."),
        "too_large": words("This picture is too large"),
        "too_large_text": words(
            "It has more than {size}. Choose a smaller one, or save it with fewer pixels.",
            size=words.file_size(MOST_BYTES),
        ),
        "copied": words("The link is copied."),
        "by_hand": words("The link is in the address bar: copy it from there."),
    }


@st.cache_data(max_entries=64, show_spinner=False)
def _preview(key: str, _data: bytes) -> bytes | None:  # noqa: ARG001 - Streamlit's cache key
    # Hashing 20 MB again on every redraw would be noticeable.
    return preview.preview(_data)


@st.cache_data(show_spinner=False)
def _thumbnail(file: str) -> str:
    sample = next(each for each in SAMPLES if each.file == file)
    return data_url(preview.preview(sample.read(), side=THUMBNAIL) or b"")
