"""The budget that all request bodies share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from service.access.key import CURRENT, Key
from service.api.uploads import BodyBudget, Reservation
from service.errors import QueueFull
from tests.service.access.keyring import client


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


@contextmanager
def reserved(budget: BodyBudget, key: Key) -> Iterator[Reservation]:
    """The reservation of a request with an API key."""
    token = CURRENT.set(key)
    try:
        with budget.reserve() as reservation:
            yield reservation
    finally:
        CURRENT.reset(token)


def test_the_bodies_of_one_client_leave_as_much_as_they_take() -> None:
    budget, busy, other = BodyBudget(100), client("busy"), client("other")

    with reserved(budget, busy) as first, reserved(budget, busy) as second:
        first.take(30)
        second.take(20)
        with pytest.raises(QueueFull, match="others need some"):
            first.take(1)
        with reserved(budget, other) as third:
            third.take(25)
            with pytest.raises(QueueFull):
                third.take(1)

    with reserved(budget, busy) as again:
        again.take(50)
