"""Why a run does not begin, or ends early; each text is a sentence for the person who started it.

    ScoringError
        Refused          exit status 2: wrong options, another run's output, nothing to score
        Stopped          exit status 1: the same command goes on where it ended
    FileUnreadable       one image, which becomes a row with an error

`str(error)` is the sentence.
"""

from __future__ import annotations


class ScoringError(Exception):
    """The output is not whole."""

    status = 1


class Refused(ScoringError):
    """The run can't begin like this."""

    status = 2


class Stopped(ScoringError):
    """The run has begun and can't go on: a store, a machine or the model fails."""


class FileUnreadable(Exception):
    """One file is gone or can't be read, and the others can."""

    code = "unreadable_file"
