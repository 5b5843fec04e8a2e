"""Sentences for errors of the client: what happened, and what the visitor can do about it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from frontend.errors import Refused, ServiceError, ServiceTimeout, ServiceUnreachable
from frontend.words import Words

_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~$:!])")

# Another picture may be accepted; waiting does not help.
_PICTURE = frozenset(
    {
        *("malformed_request", "image_too_large", "request_too_large", "decode_timeout"),
        *("unsupported_image_type", "unsupported_media_type", "unreadable_image"),
    }
)


@dataclass(frozen=True)
class Message:
    """A message to the visitor; all texts are plain, not Markdown.

    Attributes:
        about: "picture" if another one may do, "service" if it has to change, "wait" if it will.
        title: what happened, in a few words.
        advice: what to do, or what the page does by itself.
        reference: the service's own words, its error code and the request, for a report.
        wait_s: seconds after which it is worth to try again.
    """

    about: Literal["picture", "service", "wait"]
    title: str
    advice: str
    reference: str = ""
    wait_s: int = 4

    def markdown(self) -> str:
        """Render for Streamlit, with all texts escaped: a file name must not format the page."""
        lines = [f"**{escaped(self.title)}**", escaped(self.advice), escaped(self.reference)]
        return "\n\n".join(line for line in lines if line)


def escaped(text: str) -> str:
    """Escape `text`: no Markdown, no Streamlit directive, no formula, one line."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def message(error: ServiceError, words: Words) -> Message:
    """The message for an error of the client, in the visitor's language."""
    again = words("This page tries again by itself.")
    match error:
        case Refused():
            return _refused(error, words)
        case ServiceTimeout():
            return Message(
                "wait",
                words("The service takes too long"),
                words("It is under load.") + f" {again}",
            )
        case ServiceUnreachable():
            return Message("wait", words("The service is away"), again, str(error))
        case _:
            return Message(
                "service",
                words("The answer could not be understood"),
                words("The service and this page do not fit together. Its operator can tell why."),
                str(error),
            )


def _refused(error: Refused, words: Words) -> Message:
    problem = error.problem
    again = words("This page tries again by itself.")
    titles = {
        401: words("The service does not know this page"),
        403: words("The service does not know this page"),
        404: words("This model is gone"),
        413: words("This picture is too large"),
        415: words("This is not a picture that can be read here"),
        400: words("This picture can't be read"),
        422: words("This picture can't be read"),
        429: words("Too many pictures are waiting"),
        503: words("The service is not ready"),
    }
    damaged = words("It may be damaged. Open it in a viewer and save it again, or try another one.")
    advice = {
        401: words("Its operator has to give this page a valid key."),
        403: words("Its operator has to give this page a valid key."),
        404: words("Choose another model."),
        413: words("Choose a smaller one, or save it with fewer pixels."),
        415: words("JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC and AVIF can."),
        400: damaged,
        422: damaged,
        429: again,
        503: words("It is loading its models.") + f" {again}",
    }
    title = titles.get(problem.status, words("The service gave no answer"))
    advised = advice.get(problem.status, "")
    if problem.code == "draining":
        title, advised = (
            words("The service is going down"),
            words("It is restarting.") + f" {again}",
        )
    elif problem.code in ("not_found", "method_not_allowed"):
        title = words("This service can't do that")
        advised = words("It is older than this page.")
    elif problem.code == "deadline_exceeded":
        title = words("The service takes too long")
        advised = words("It is under load.") + f" {again}"
    about: Literal["picture", "service", "wait"] = "service"
    if problem.code in _PICTURE:
        about = "picture"
    elif problem.status in (408, 429, 500, 503, 504):
        about = "wait"
        advised = advised or again
    request = f"request {problem.request_id}" if problem.request_id else ""
    reference = " · ".join(part for part in (problem.detail, problem.code, request) if part)
    return Message(about, title, advised, reference, error.retry_after or 4)
