"""The budget that all request bodies share."""

from __future__ import annotations

import pytest

from service.api.uploads import BodyBudget
from service.errors import QueueFull


def test_the_bodies_of_all_requests_are_bounded_together() -> None:
    budget = BodyBudget(100)

    with budget.reserve() as first, budget.reserve() as second:
        first.take(60)
        second.take(40)
        with pytest.raises(QueueFull, match="take 100 of at most 100 bytes"):
            second.take(1)


def test_a_request_releases_its_reservation_at_its_end() -> None:
    budget = BodyBudget(100)

    with budget.reserve() as first:
        first.take(100)

    with budget.reserve() as second:
        second.take(100)
