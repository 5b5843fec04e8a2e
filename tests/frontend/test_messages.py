from __future__ import annotations

import pytest

from frontend.errors import (
    Refused,
    ServiceError,
    ServiceTimeout,
    ServiceUnreachable,
    UnexpectedResponse,
)
from frontend.messages import escaped, message
from frontend.responses import Problem
from frontend.words import ENGLISH, LANGUAGES, words


def refused(status: int, code: str, retry_after: int | None = None) -> Refused:
    problem = Problem(
        title="A title", status=status, detail="What happened.", code=code, request_id="r-7"
    )
    return Refused(problem, retry_after)


@pytest.mark.parametrize(
    ("status", "code", "about", "title"),
    [
        (400, "malformed_request", "picture", "can't be read"),
        (401, "unauthorized", "service", "does not know this page"),
        (404, "unknown_model", "service", "model is gone"),
        (404, "not_found", "service", "can't do that"),
        (413, "image_too_large", "picture", "too large"),
        (415, "unsupported_image_type", "picture", "not a picture"),
        (422, "unreadable_image", "picture", "can't be read"),
        (422, "invalid_parameter", "service", ""),
        (429, "queue_full", "wait", "Too many"),
        (500, "internal_error", "wait", "no answer"),
        (503, "not_ready", "wait", "not ready"),
        (503, "draining", "wait", "going down"),
        (504, "deadline_exceeded", "wait", "too long"),
    ],
)
def test_each_refusal_says_what_happened_and_whether_waiting_helps(
    status: int, code: str, about: str, title: str
) -> None:
    shown = message(refused(status, code), ENGLISH)

    assert shown.about == about
    assert title in shown.title
    assert shown.reference == f"What happened. · {code} · request r-7"
    assert code in shown.markdown().replace("\\", "")
    # A visitor can start nothing.
    assert "make" not in shown.advice
    if about == "wait":
        assert "again by itself" in shown.advice


def test_the_page_waits_as_long_as_the_service_wants() -> None:
    assert message(refused(429, "queue_full", 9), ENGLISH).wait_s == 9


@pytest.mark.parametrize(
    "kind", [ServiceUnreachable, ServiceTimeout, UnexpectedResponse, ServiceError]
)
def test_every_error_of_the_client_has_a_message_in_each_language(kind: type[ServiceError]) -> None:
    for language in LANGUAGES:
        shown = message(kind("x"), words(language))

        assert shown.title
        assert shown.advice


def test_foreign_text_does_not_format_the_page() -> None:
    assert escaped("a_b *c* [x](http://y) <b> $1$ :red[z]\n# h") == (
        r"a\_b \*c\* \[x\](http\://y) \<b\> \$1\$ \:red\[z\] \# h"
    )
