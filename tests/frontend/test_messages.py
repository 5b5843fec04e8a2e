from __future__ import annotations

import pytest

from frontend.answers import Problem
from frontend.client import Refused, ServiceAway, ServiceError, ServiceSlow, UnexpectedAnswer
from frontend.messages import escaped, message


def refused(status: int, code: str, retry_after: int | None = None) -> Refused:
    problem = Problem(
        title="A title", status=status, detail="What happened.", code=code, request_id="r-7"
    )
    return Refused(problem, retry_after)


@pytest.mark.parametrize(
    ("status", "words"),
    [(404, "does not know"), (413, "too large"), (415, "not a picture"), (422, "could not read"), (429, "busy"),
     (503, "not ready"), (500, "A title")],
)  # fmt: skip
def test_each_refusal_says_what_happened_with_detail_code_and_request(
    status: int, words: str
) -> None:
    said = message(refused(status, "some_code"))

    assert words in said.title
    assert said.detail == "What happened."
    assert said.reference == "some_code · request r-7"
    assert "What happened." in said.markdown()
    assert "some_code" in said.markdown()


def test_waiting_is_advised_as_long_as_the_service_says() -> None:
    assert "in 1 second." in message(refused(429, "queue_full", 1)).advice
    assert "in 8 seconds." in message(refused(503, "not_ready", 8)).advice
    assert message(refused(503, "not_ready", 8)).level == "warning"


def test_draining_is_told_apart_from_loading() -> None:
    assert "shutting down" in message(refused(503, "draining")).title


@pytest.mark.parametrize(
    "error", [ServiceAway("x"), ServiceSlow("x"), UnexpectedAnswer("x"), ServiceError("x")]
)
def test_every_error_of_the_client_has_a_message(error: ServiceError) -> None:
    said = message(error)

    assert said.title
    assert said.detail == "x"


def test_text_of_others_does_not_format_the_page() -> None:
    assert escaped("a_b *c* [x](http://y) <b> $1$ :red[z]\n# h") == (
        r"a\_b \*c\* \[x\](http\://y) \<b\> \$1\$ \:red\[z\] \# h"
    )
