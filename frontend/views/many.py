"""Placeholder."""

from __future__ import annotations

from frontend.visit import Visit


def draw(visit: Visit) -> None:
    """Nothing."""
