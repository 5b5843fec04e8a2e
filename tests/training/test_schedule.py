from __future__ import annotations

from training.config import make_config
from training.schedule import crop_size, rate_factor


def test_the_rate_climbs_to_its_peak_and_falls_to_zero() -> None:
    config = make_config()
    factors = [rate_factor(config, step, 1000) for step in range(1000)]

    peak = factors.index(max(factors))

    assert 90 <= peak <= 110
    assert 0 < factors[0] < 0.02
    assert 0.99 < factors[peak] <= 1
    assert 0 < factors[-1] < 0.01
    assert factors[:peak] == sorted(factors[:peak])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)


def test_the_paper_divides_the_rate_by_ten_twice() -> None:
    config = make_config("he2016")

    assert [rate_factor(config, step, 64_000) for step in (0, 31_999, 32_000, 47_999, 48_000)] == [
        1,
        1,
        0.1,
        0.1,
        0.01,
    ]


def test_crops_are_small_first_and_full_at_the_end() -> None:
    config = make_config(epochs=20, small_crop_fraction=0.75)

    assert [crop_size(config, epoch) for epoch in (0, 14, 15, 19)] == [24, 24, 32, 32]
    assert crop_size(make_config("he2016"), 0) == 32
