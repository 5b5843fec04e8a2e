from __future__ import annotations

import pytest

from service.settings import SettingsError
from service.traffic import Traffic, read_traffic

SESSIONS = [f"session {number}" for number in range(2000)]


def test_a_share_of_the_sessions_is_for_the_canary_and_stays_so_as_the_share_grows() -> None:
    few, many = (
        {each for each in SESSIONS if Traffic(canary=2, canary_share=share).is_canary("a", each)}
        for share in (0.1, 0.3)
    )

    assert 0.07 < len(few) / len(SESSIONS) < 0.13
    assert 0.26 < len(many) / len(SESSIONS) < 0.34
    assert few < many


def test_of_two_models_other_sessions_are_for_the_canary() -> None:
    traffic = Traffic(canary=2, canary_share=0.5)
    both = [(traffic.is_canary("a", each), traffic.is_canary("b", each)) for each in SESSIONS]

    assert 0.4 < sum(one != other for one, other in both) / len(both) < 0.6


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.25, 25), (1.0, 100)])
def test_without_a_session_it_is_drawn(share: float, expected: int) -> None:
    traffic = Traffic(canary=2, canary_share=share)
    draws = iter(number / 100 for number in range(100))

    assert sum(traffic.is_canary("a", None, lambda: next(draws)) for _ in range(100)) == expected


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"canary_share": 1.5}, r"\[a.traffic\], canary_share: .*less.*Received: 1.5"),
        ({"stable": "3"}, r"\[a.traffic\], stable: .*integer.*Received: '3'"),
        ({"stable": 0}, r"stable: .*greater.*Received: 0"),
        ({"stable": 1, "canary": 1}, "traffic: stable and canary are two versions"),
        ({"stable": 1, "canary_share": 0.5}, "traffic: canary_share is of a canary"),
        ({"share": 0.5}, r"share: Expected one of stable, canary, canary_share. Received: 0.5"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(table: dict[str, object], expected: str) -> None:
    with pytest.raises(SettingsError, match=expected):
        read_traffic("a", table, "serving.toml")
