"""Whose turn it is, among what waits."""

from __future__ import annotations

from collections import Counter

import pytest

from service.access.key import CURRENT, Key
from service.access.rounds import Rounds
from tests.service.access.keyring import client


def wait(rounds: Rounds[str], key: Key | None, *items: str) -> None:
    token = CURRENT.set(key)
    for item in items:
        rounds.append(item)
    CURRENT.reset(token)


def served(rounds: Rounds[str], count: int) -> list[str]:
    return [rounds.popleft() for _ in range(count)]


def test_one_client_is_served_in_the_order_of_its_items() -> None:
    rounds: Rounds[str] = Rounds()
    wait(rounds, None, "a", "b", "c")

    assert rounds[0] == "a"
    assert len(rounds) == 3
    assert list(rounds) == served(rounds, 3) == ["a", "b", "c"]
    assert not rounds
    with pytest.raises(IndexError):
        rounds.popleft()


def test_a_client_with_one_item_comes_next_whatever_another_one_has_waiting() -> None:
    rounds: Rounds[str] = Rounds()
    busy, other = client("busy"), client("other")
    wait(rounds, busy, *(f"busy {number}" for number in range(100)))
    assert served(rounds, 3) == ["busy 0", "busy 1", "busy 2"]

    wait(rounds, other, "other")

    assert "other" in served(rounds, 2)


@pytest.mark.parametrize("weights", [(3, 1), (1, 1), (5, 2)])
def test_weights_are_shares_of_the_turns_and_turns_alternate(weights: tuple[int, int]) -> None:
    rounds: Rounds[str] = Rounds()
    for name, weight in zip("ab", weights, strict=True):
        wait(rounds, client(name, weight=weight), *[name] * 70)

    turns = served(rounds, 10 * sum(weights))

    assert Counter(turns) == {"a": 10 * weights[0], "b": 10 * weights[1]}
    longest = max(map(len, "".join(turns).split("b")))
    assert longest <= -(-weights[0] // weights[1]) + 1, "no client has all its turns at once"


def test_three_clients_share_what_one_leaves() -> None:
    rounds: Rounds[str] = Rounds()
    keys = {name: client(name) for name in "abc"}
    wait(rounds, keys["a"], *"a" * 50)
    wait(rounds, keys["b"], *"b" * 2)
    wait(rounds, keys["c"], *"c" * 50)

    turns = served(rounds, 30)

    assert Counter(turns) == {"a": 14, "b": 2, "c": 14}


def test_a_client_that_was_idle_has_no_turns_saved_and_one_that_left_none_gained() -> None:
    rounds: Rounds[str] = Rounds()
    steady, other = client("steady"), client("other")
    wait(rounds, steady, *"s" * 100)
    wait(rounds, other, "o")
    served(rounds, 40)
    wait(rounds, other, *"o" * 100)

    assert Counter(served(rounds, 20)) == {"s": 10, "o": 10}

    again: Rounds[str] = Rounds()
    wait(again, steady, *"s" * 100)
    for _ in range(20):
        # It comes back for each turn, and gets every other one all the same.
        wait(again, other, "o")
        served(again, 2)
    assert len(again) == 80


def test_what_is_put_back_comes_before_all_others() -> None:
    rounds: Rounds[str] = Rounds()
    wait(rounds, client("a"), "a1", "a2")
    wait(rounds, client("b"), "b1", "b2")
    batch = served(rounds, 3)

    rounds.extendleft(reversed(batch))
    rounds.appendleft("first")

    assert rounds[0] == "first"
    assert served(rounds, 4) == ["first", *batch]
    assert len(rounds) == 1


def test_what_does_not_wait_any_more_takes_no_turn() -> None:
    rounds: Rounds[str] = Rounds()
    wait(rounds, client("a"), "a1", "a2", "a3")
    wait(rounds, client("b"), "b1")
    taken = rounds.popleft()
    rounds.appendleft(taken)

    for gone in ("a1", "a2", "b1"):
        rounds.remove(gone)

    assert list(rounds) == ["a3"]
    with pytest.raises(ValueError):  # noqa: PT011 - the text is of the library
        rounds.remove("b1")
    rounds.clear()
    assert len(rounds) == 0
