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


def refused(status: int, code: str, retry_after: int | None = None) -> Refused:
    problem = Problem(
        title="A title", status=status, detail="What happened.", code=code, request_id="r-7"
    )
    return Refused(problem, retry_after)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, "does not know"),
        (413, "too large"),
        (415, "not a picture"),
        (422, "could not read"),
        (401, "does not know this page"),
        (429, "busy"),
        (503, "not ready"),
        (500, "A title"),
    ],
)
def test_each_refusal_says_what_happened_with_detail_code_and_request(
    status: int, words: str
) -> None:
    shown = message(refused(status, "some_code"))

    assert words in shown.title
    assert shown.detail == "What happened."
    assert shown.reference == "some_code · request r-7"
    assert "What happened." in shown.markdown()
    assert "some_code" in shown.markdown()


def test_the_advised_wait_is_that_of_the_service() -> None:
    assert "in 1 second." in message(refused(429, "queue_full", 1)).advice
    assert "in 8 seconds." in message(refused(503, "not_ready", 8)).advice
    assert message(refused(503, "not_ready", 8)).level == "warning"


def test_draining_and_loading_have_different_messages() -> None:
    assert "shutting down" in message(refused(503, "draining")).title


@pytest.mark.parametrize(
    "kind", [ServiceUnreachable, ServiceTimeout, UnexpectedResponse, ServiceError]
)
def test_every_error_of_the_client_has_a_message(kind: type[ServiceError]) -> None:
    shown = message(kind("x"))

    assert shown.title
    assert shown.detail == "x"


def test_foreign_text_does_not_format_the_page() -> None:
    assert escaped("a_b *c* [x](http://y) <b> $1$ :red[z]\n# h") == (
        r"a\_b \*c\* \[x\](http\://y) \<b\> \$1\$ \:red\[z\] \# h"
    )
