"""What can go wrong, each in a sentence for the person at the terminal."""

from __future__ import annotations


class ImageRefused(Exception):
    """One file has no answer.

    Args:
        code: Of the problem, as in docs/errors.md.
        detail: A sentence.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Unusable(Exception):
    """No file can have an answer: no service, no such model, a refused bundle."""
