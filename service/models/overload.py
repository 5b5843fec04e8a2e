"""What a client is told when too many images wait for a model, and when to send again."""

from __future__ import annotations

import math

from service.errors import DeadlineUnreachable, QueueFull

# Longest time that a refused client is told to wait.
MAX_RETRY_S = 60


def queue_full(waiting: int, size: int, count: int, wait_s: float) -> QueueFull:
    """There is no room for `count` images beside those that wait, which take `wait_s`."""
    full = QueueFull(
        f"{waiting} images wait for this model, and {size} may. Send {_these(count)} again "
        "a little later."
    )
    full.retry_after_s = _bounded(wait_s)
    return full


def displaced(count: int, wait_s: float) -> QueueFull:
    """The places of `count` images go to another client, and the others take `wait_s`."""
    full = QueueFull(
        "The queue of this model is full, and another client has a right to a part of it. This "
        f"request is the newest of a client that has more than its share. Send {_these(count)} "
        "again a little later."
    )
    full.retry_after_s = _bounded(wait_s)
    return full


def deadline_unreachable(
    waiting: int, count: int, wait_s: float, timeout_s: float
) -> DeadlineUnreachable:
    """What waits before `count` images takes `wait_s`, and their client has only `timeout_s`."""
    late = DeadlineUnreachable(
        f"{waiting} images wait for this model, which takes about {wait_s:.1f} s for them. "
        f"Send {_these(count)} again later, or with more time. "
        f"Received: a limit of {timeout_s:g} s"
    )
    late.retry_after_s = _bounded(wait_s - timeout_s)
    return late


def _these(count: int) -> str:
    return "this one" if count == 1 else f"these {count}"


def _bounded(seconds: float) -> int:
    return min(MAX_RETRY_S, max(1, math.ceil(seconds)))
