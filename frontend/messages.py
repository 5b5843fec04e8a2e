"""Messages for errors of the client: what happened, and what the visitor can do about it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from frontend.errors import (
    Refused,
    ServiceError,
    ServiceTimeout,
    ServiceUnreachable,
    UnexpectedResponse,
)

_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~$:!])")

# By status: a title and the advice, for a visitor without technical knowledge.
_BY_STATUS = {
    401: (
        "The service does not know this page",
        "Its operator sets FRONTEND_API_KEY to a key of the service, and restarts the page.",
    ),
    404: (
        "The service does not know this model any more",
        "Reload the page to see the models it holds now.",
    ),
    413: (
        "This picture is too large for the service",
        "Choose a smaller picture, or save it at a lower resolution.",
    ),
    415: (
        "This is not a picture that the service reads",
        "Use a JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC or AVIF file.",
    ),
    422: (
        "The service could not read this picture",
        "Open it in a picture viewer and save it again, or try another.",
    ),
    429: ("The service is busy", "Too many pictures are waiting."),
    503: ("The service is not ready", "It is loading its models, or going down for maintenance."),
}


@dataclass(frozen=True)
class Message:
    """A message to the visitor; all texts are plain, not Markdown.

    Attributes:
        level: "warning" where waiting helps, "error" otherwise.
        title: what happened, in a few words.
        detail: the text of the service, or of the client.
        advice: what to do.
        reference: the error code and the request id, for a report; empty if there is none.
    """

    level: Literal["warning", "error"]
    title: str
    detail: str
    advice: str
    reference: str = ""

    def markdown(self) -> str:
        """Render for Streamlit, with all texts escaped: a file name must not format the page."""
        lines = [f"**{escaped(self.title)}**", escaped(self.detail), escaped(self.advice)]
        if self.reference:
            lines.append(f"`{self.reference.replace('`', ' ')}`")
        return "\n\n".join(line for line in lines if line)


def escaped(text: str) -> str:
    """Escape `text`: no Markdown, no Streamlit directive, no formula, one line."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def message(error: ServiceError) -> Message:
    """The message for an error of the client."""
    match error:
        case Refused():
            return _refused(error)
        case ServiceTimeout():
            return Message(
                "warning",
                "The service takes too long",
                str(error),
                "It may be under load. Try again in a moment.",
            )
        case ServiceUnreachable():
            return Message(
                "error",
                "The service is away",
                str(error),
                "Start it with: make serve. If it runs elsewhere, set SERVICE_URL to its address "
                "and restart the page. This page checks again every few seconds.",
            )
        case UnexpectedResponse():
            return Message("error", "The response is not one of the service", str(error), "")
        case _:
            return Message("error", "The service gave no usable response", str(error), "")


def _refused(error: Refused) -> Message:
    problem = error.problem
    title, advice = _BY_STATUS.get(problem.status, (f"The service refused: {problem.title}", ""))
    if problem.code == "draining":
        title, advice = (
            "The service is shutting down",
            "It finishes the pictures it has and accepts no new ones.",
        )
    if error.retry_after is not None:
        unit = "second" if error.retry_after == 1 else "seconds"
        advice = f"{advice} Try again in {error.retry_after} {unit}.".strip()
    reference = problem.code + (f" · request {problem.request_id}" if problem.request_id else "")
    return Message(
        "warning" if problem.status in (429, 503) else "error",
        title,
        problem.detail,
        advice,
        reference,
    )
