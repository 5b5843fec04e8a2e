"""What the bodies of all requests hold together."""

from __future__ import annotations

import pytest

from service.api.uploads import Memory
from service.errors import QueueFull


def test_the_bodies_of_all_requests_are_bounded_together() -> None:
    memory = Memory(100)

    with memory.hold() as first, memory.hold() as second:
        first.take(60)
        second.take(40)
        with pytest.raises(QueueFull, match="hold 100 bytes, and 100 are the most"):
            second.take(1)


def test_a_request_that_ends_gives_its_share_back() -> None:
    memory = Memory(100)

    with memory.hold() as first:
        first.take(100)

    with memory.hold() as second:
        second.take(100)
