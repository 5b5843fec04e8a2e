"""What every view needs of one run of the page: the service, its models, and the language."""

from __future__ import annotations

import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeVar

import streamlit as st

from frontend.cards import Card
from frontend.client import ServiceClient
from frontend.errors import Refused, ServiceError
from frontend.messages import Message, escaped, message
from frontend.responses import ModelList, ModelRecord, ModelSummary
from frontend.words import Words

Value = TypeVar("Value")

KEPT = 48  # answers in the session of one visitor


@dataclass(frozen=True)
class Visit:
    """One run of the page for one visitor.

    Attributes:
        client: of the service.
        words: the visitor's language.
        address: of the service, as visitors reach it.
        needs_key: the service wants an API key with each request.
        model_list: its models; None while it gives no answer.
        error: why there is no list.
    """

    client: ServiceClient
    words: Words
    address: str
    needs_key: bool
    model_list: ModelList | None
    error: ServiceError | None

    @property
    def ready(self) -> list[ModelSummary]:
        """The models that are ready, the default one first."""
        return [] if self.model_list is None else self.model_list.ready

    def trouble(self) -> Message | None:
        """Why nothing can be classified now, or None."""
        if self.error is not None:
            return message(self.error, self.words)
        if not self.ready:
            return Message(
                "wait",
                self.words("No model is ready"),
                self.words("The view “Status” says why. This page tries again by itself."),
            )
        return None

    def card(self, model: ModelSummary) -> Card | None:
        """The card of `model`, or None where the bundle or the service has none."""
        return _told(f"card {model.key}", lambda: self.client.card(model.name, model.version))

    def record(self, model: ModelSummary) -> ModelRecord | None:
        """Labels and input of `model`, or None where the service does not tell."""
        return _told(f"record {model.key}", lambda: self.client.record(model.name, model.version))

    def takes_feedback(self) -> bool:
        """Whether the service keeps what visitors say about answers."""
        return bool(_told("feedback", self.client.takes_feedback))


def open_visit(client: ServiceClient, words: Words, address: str, *, needs_key: bool) -> Visit:
    """Ask the service for its models."""
    try:
        client.readiness()
        return Visit(client, words, address, needs_key, client.models(), None)
    except ServiceError as exc:
        return Visit(client, words, address, needs_key, None, exc)


def kept(key: str, make: Callable[[], Value]) -> Value:
    """The value of `key` in this session, made at its first use; the oldest ones are dropped.

    Raises:
        ServiceError: as `make` does; failures are not kept.
    """
    values: MutableMapping[str, Any] = st.session_state.setdefault("kept", {})
    if key not in values:
        made = make()
        while len(values) >= KEPT:
            del values[next(iter(values))]
        values[key] = made
    found: Value = values[key]
    return found


def is_kept(key: str) -> bool:
    """Whether `kept` has a value for `key`."""
    return key in st.session_state.get("kept", {})


def _told(key: str, ask: Callable[[], Value]) -> Value | None:
    """What the service tells, kept as `key`; None where it does not, and in an outage."""

    def answer() -> Value | None:
        try:
            return ask()
        except Refused:
            return None

    try:
        return kept(key, answer)
    except ServiceError:
        return None  # not for good: the next run asks again


def try_again(visit: Visit, after_s: int, then: Callable[[], None] = lambda: None) -> None:
    """Ask the service every few seconds; once it is ready, call `then` and run the page again.

    Args:
        visit: with the client to ask.
        after_s: seconds that the service wants to be left alone.
        then: forgets the failure.
    """
    begun = time.monotonic()

    @st.fragment(run_every=max(2, min(after_s, 30)))
    def poll() -> None:
        # The first run of a fragment is with the page itself.
        if time.monotonic() - begun < min(after_s, 2) / 2:
            return
        try:
            # What the page asks for: a service that is ready may still refuse its key.
            visit.client.readiness()
            if not visit.client.models().ready:
                return
        except ServiceError:
            return
        then()
        st.rerun()

    poll()


def show_trouble(visit: Visit, trouble: Message) -> None:
    """A message in place of a view, which comes by itself once the service is there."""
    show = st.error if trouble.about == "service" else st.warning
    show(trouble.markdown())
    if trouble.about == "wait":
        try_again(visit, trouble.wait_s)


def described(model: ModelSummary, words: Words) -> str:
    """Framework, architecture, accuracy, runtime and device of a model in one line of Markdown."""
    names = {"pytorch": "PyTorch", "tensorflow": "Keras / TensorFlow", "onnx": "ONNX"}
    accuracy = model.accuracy
    parts = [
        names.get(model.framework or "", model.framework),
        model.architecture,
        None
        if accuracy is None
        else words("right for {share} of its test pictures", share=words.percent(accuracy)),
        " ".join(part for part in (model.runtime, model.precision) if part),
        model.device,
    ]
    return " · ".join(escaped(part) for part in parts if part)
