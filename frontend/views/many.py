"""Many pictures: a folder or hundreds of files, answered a few at a time."""

from __future__ import annotations

import base64
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import streamlit as st

from frontend import components, preview
from frontend.choice import MOST_BYTES, serial, session, take_file
from frontend.errors import Refused, ServiceError
from frontend.messages import message
from frontend.responses import ModelSummary
from frontend.views import gallery
from frontend.views.collection import Picture, difference_hash, grouped, truth
from frontend.visit import Visit, show_trouble, try_again
from frontend.words import Words

KEY = "many"
THUMBNAIL = 160  # pixels
AT_ONCE = 4  # requests of one visitor
LATEST = 12  # pictures shown while others are on their way
RETRIES = 5  # of a busy service, before the visitor is told


@dataclass
class Run:
    """What is known of the visitor's pictures; kept in the session.

    Attributes:
        pictures: answered or refused, in the order of the files.
        waiting: files that came and have no answer yet; only a few at a time.
        total: how many there will be.
        received: number of the last batch that is answered, for the browser.
        begun: when the first one came, of the monotonic clock.
        took: seconds until the last answer.
        trouble: why no more is answered at the moment; empty if there is no reason.
        labels: all of the model's, for the names of folders.
        models: the one that answers, and the second one or None; chosen before the first picture.
    """

    pictures: list[Picture] = field(default_factory=list)
    waiting: list[dict[str, Any]] = field(default_factory=list)
    total: int = 0
    received: int = 0
    batch: int = 0
    begun: float = 0.0
    took: float = 0.0
    trouble: str = ""
    labels: list[str] = field(default_factory=list)
    models: tuple[ModelSummary, ModelSummary | None] | None = None

    @property
    def busy(self) -> bool:
        """Pictures are on their way."""
        return len(self.pictures) < self.total


def draw(visit: Visit) -> None:
    """Draw the view."""
    words = visit.words
    st.title(words("Many pictures"), anchor=False)
    trouble = visit.trouble()
    run: Run = st.session_state.setdefault("many-run", Run())
    if trouble is not None:
        show_trouble(visit, trouble)
        if not run.total:
            return
    if st.session_state.pop("open-classify", False):
        st.switch_page(st.session_state["pages"][0])
    chosen = None if trouble is not None else _options(visit, run)

    # A fragment: a batch redraws this part and asks the service for nothing else.
    @st.fragment
    def part() -> None:
        if "open-classify" in st.session_state:
            st.rerun()
        run: Run = st.session_state["many-run"]
        if run.total and run.models is None:
            # The models of the first batch answer all others too.
            run.models = chosen
        _intake(run, words)
        _progress(run, words)
        if run.busy:
            gallery.grid(run.pictures[-LATEST:], words, _open)
        else:
            gallery.draw(run.pictures, run.labels, words, _open)
        # Last, so that what is drawn is not greyed out for as long as this takes.
        if run.waiting and run.models is not None and trouble is None:
            if not run.trouble:
                _answer(visit, run, *run.models)
                st.rerun()
            try_again(visit, 4, then=partial(setattr, run, "trouble", ""))

    part()


def _options(visit: Visit, run: Run) -> tuple[ModelSummary, ModelSummary | None]:
    words = visit.words
    by_key = {model.key: model for model in visit.ready}
    none = words("none")
    with st.container(horizontal=True):
        key = st.selectbox(words("Model"), list(by_key), width=340, disabled=run.busy)
        others = [none, *(each for each in by_key if each != key)]
        other = st.selectbox(words("Compare with"), others, width=340, disabled=run.busy)
    record = visit.record(by_key[key])
    if not run.pictures:
        run.labels = (record.labels if record else None) or []
    return by_key[key], by_key.get(other)


def _take(sent: dict[str, Any]) -> None:
    run: Run = st.session_state["many-run"]
    if sent["first"]:
        run = st.session_state["many-run"] = Run(labels=run.labels, received=run.received)
        run.total, run.begun = int(sent["total"]), time.monotonic()
    run.waiting, run.batch = list(sent["files"]), int(sent["batch"])


def _stop(_: object) -> None:
    run: Run = st.session_state["many-run"]
    run.waiting, run.trouble, run.total = [], "", len(run.pictures)
    run.pictures = grouped(run.pictures)


def _open(sent: dict[str, Any]) -> None:
    # A number of its own: it takes the place of a picture that was brought in elsewhere.
    take_file({**sent, "serial": serial() + 1})
    st.session_state["open-classify"] = True


def _answer(visit: Visit, run: Run, model: ModelSummary, second: ModelSummary | None) -> None:
    """Answer what waits; it stays waiting while the service is away."""
    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            jobs = [pool.submit(_one, visit, run, each, model, second) for each in run.waiting]
            answered = [job.result() for job in jobs]
    except ServiceError as exc:
        run.trouble = message(exc, visit.words).title
        return
    run.pictures += answered
    run.waiting, run.received, run.trouble = [], run.batch, ""
    run.took = time.monotonic() - run.begun
    if not run.busy:
        run.pictures = grouped(run.pictures)


def _one(
    visit: Visit,
    run: Run,
    sent: dict[str, Any],
    model: ModelSummary,
    second: ModelSummary | None,
) -> Picture:
    """One picture with its answer.

    Raises:
        ServiceError: the service is away, or busy for too long.
    """
    path = str(sent["path"])
    if sent["data"] is None:
        return Picture(path, refused=visit.words("This picture is too large"))
    data = base64.b64decode(sent["data"])
    try:
        best, uncertain = _best(visit, data, model)
        other = _best(visit, data, second)[0] if second is not None else None
    except Refused as exc:
        trouble = message(exc, visit.words)
        if trouble.about != "picture":
            raise
        return Picture(path, refused=trouble.title)
    thumbnail = preview.preview(data, side=THUMBNAIL)
    return Picture(
        path,
        thumbnail,
        best.label,
        best.score,
        uncertain,
        other=other.label if other else "",
        hash=difference_hash(thumbnail) if thumbnail else None,
        truth=truth(path, run.labels),
    )


def _best(visit: Visit, data: bytes, model: ModelSummary) -> tuple[Any, bool | None]:
    for attempt in range(RETRIES):
        try:
            response = visit.client.predict(
                data, model=model.name, version=model.version, top_k=1
            ).response
        except Refused as exc:
            if exc.problem.status != 429 or attempt == RETRIES - 1:
                raise
            time.sleep(min(exc.retry_after or 1, 5))
        else:
            return response.predictions[0], response.uncertain
    raise AssertionError("the last attempt returns or raises")


def _progress(run: Run, words: Words) -> None:
    if not run.total:
        return
    done = len(run.pictures)
    if not run.busy:
        st.header(
            words.count(
                "{n} picture, {time}", "{n} pictures, {time}", done, time=_time(run.took, words)
            ),
            anchor=False,
        )
        return
    text = words("{done} of {total}", done=words.number(done), total=words.number(run.total))
    if run.trouble:
        text += " · " + words("{why}: this page goes on by itself", why=run.trouble)
    elif done:
        left = run.took / done * (run.total - done)
        text += " · " + words("{time} to go", time=_time(left, words))
    st.progress(done / run.total, text)


def _time(seconds: float, words: Words) -> str:
    if seconds < 60:
        return f"{words.number(seconds, 1 if seconds < 10 else 0)} s"
    return f"{words.number(seconds / 60, 1)} min"


def _intake(run: Run, words: Words) -> None:
    labels = Counter(each.label for each in run.pictures if each.label)
    most = ", ".join(label for label, _ in labels.most_common(3))
    components.many(
        KEY,
        {
            "session": session(),
            "received": run.received,
            "busy": run.busy,
            "most_bytes": MOST_BYTES,
            "said": "" if run.busy else most,
            "words": {
                "some": words("Choose pictures …"),
                "folder": words("Choose a folder …"),
                "stop": words("Stop"),
                "hint": words(
                    "Or drop files or folders here. A folder that is named like a label is taken "
                    "as the truth. Only thumbnails are kept, until you leave."
                ),
            },
        },
        files=_take,
        stop=_stop,
    )
