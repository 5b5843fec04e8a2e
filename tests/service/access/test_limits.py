"""A token bucket."""

from __future__ import annotations

import pytest

from service.access.limits import Bucket
from tests.service.access.keyring import Clock


def test_a_bucket_is_full_at_first_and_says_when_it_has_enough_again() -> None:
    clock = Clock()
    bucket = Bucket(rate=2, burst=4, clock=clock)

    for _ in range(4):
        assert bucket.wait_s(1) == 0
        bucket.take(1)

    assert bucket.wait_s(1) == 0.5
    assert bucket.wait_s(4) == 2
    clock.now_s += 0.5
    assert bucket.wait_s(1) == 0
    bucket.take(1)
    assert bucket.wait_s(1) == 0.5


def test_no_more_than_the_burst_is_kept() -> None:
    clock = Clock()
    bucket = Bucket(rate=2, burst=4, clock=clock)

    clock.now_s += 3600

    assert bucket.wait_s(4) == 0
    bucket.take(4)
    assert bucket.wait_s(1) == 0.5


@pytest.mark.parametrize(("burst", "wait_s"), [(4, 0.25), (8, 0.0), (2, 0.25)])
def test_another_limit_keeps_what_has_been_taken(burst: int, wait_s: float) -> None:
    bucket = Bucket(rate=2, burst=4, clock=Clock())
    bucket.take(4)

    bucket.change(rate=4, burst=burst)

    assert bucket.wait_s(1) == wait_s
