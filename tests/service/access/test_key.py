"""The limits of one client, with a clock that stands still."""

from __future__ import annotations

import pytest

from service.errors import Forbidden, RateLimited, RequestTooLarge
from tests.service.access.keyring import Clock, client


def test_requests_over_the_limit_are_refused_with_the_time_until_the_next_one() -> None:
    clock = Clock()
    key = client("shop", clock, requests_per_s=0.25, burst_requests=2)
    key.admit(0)
    key.admit(0)

    with pytest.raises(RateLimited, match=r"shop.*in 4.0 s") as refused:
        key.admit(0)
    assert refused.value.retry_after_s == 4

    clock.now_s += 1.5
    with pytest.raises(RateLimited) as refused:
        key.admit(0)
    assert refused.value.retry_after_s == 3, "2.5 s, in whole seconds"
    clock.now_s += 3
    key.admit(0)
    assert dict(key.outcomes) == {
        "admitted": 3,
        "forbidden": 0,
        "rate_limited": 2,
        "request_too_large": 0,
    }


def test_a_second_of_requests_may_come_at_once_if_nothing_else_is_said() -> None:
    key = client("shop", requests_per_s=3)
    slow = client("slow", requests_per_s=0.1)

    for _ in range(3):
        key.admit(0)
    with pytest.raises(RateLimited):
        key.admit(0)
    slow.admit(0)
    with pytest.raises(RateLimited) as refused:
        slow.admit(0)
    assert refused.value.retry_after_s == 10


def test_a_body_is_admitted_if_its_bytes_are_left_and_costs_nothing_otherwise() -> None:
    clock = Clock()
    key = client("shop", clock, requests_per_s=100, bytes_per_s=1000, burst_bytes=5000)
    key.admit(4000)

    with pytest.raises(RateLimited) as refused:
        key.admit(3000)
    assert refused.value.retry_after_s == 2
    key.admit(1000)

    clock.now_s += 3
    key.admit(3000)
    assert key.bytes == 8000


def test_a_body_that_the_limit_never_allows_is_refused_for_good() -> None:
    key = client("shop", bytes_per_s=1000)

    with pytest.raises(RequestTooLarge, match=r"burst_bytes.*at most 1000.*Received: 1001 bytes"):
        key.admit(1001)
    key.admit(1000)

    assert key.outcomes["request_too_large"] == 1


def test_a_body_of_unknown_size_is_counted_as_it_arrives() -> None:
    clock = Clock()
    key = client("shop", clock, bytes_per_s=1000)
    key.admit(0)
    key.receive(600, of=600)

    with pytest.raises(RateLimited) as refused:
        key.receive(600, of=600)
    assert refused.value.retry_after_s == 1
    clock.now_s += 0.2
    key.receive(600, of=600)

    assert key.bytes == 1200


def test_a_body_of_unknown_size_that_the_limit_never_allows_is_refused_for_good() -> None:
    key = client("shop", bytes_per_s=1000)
    key.admit(0)
    key.receive(600, of=600)

    with pytest.raises(RequestTooLarge, match="Received: 1200 bytes"):
        key.receive(600, of=1200)


def test_a_client_without_limits_has_none() -> None:
    key = client("shop")

    for _ in range(1000):
        key.admit(10**9)

    assert key.bytes == 10**12


def test_what_is_for_administrators_is_for_no_other_client() -> None:
    with pytest.raises(Forbidden, match="Received: a key of shop"):
        client("shop").admit(0, admin=True)

    client("ops", admin=True).admit(0, admin=True)
