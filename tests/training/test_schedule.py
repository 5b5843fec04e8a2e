from __future__ import annotations

from training.config import make_config
from training.schedule import average_decay, crop_size, rate_factor, step_cost


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


def test_the_schedule_begins_after_the_linear_probe() -> None:
    config = make_config("transfer", epochs=10)
    factors = [rate_factor(config, step, 1000) for step in range(1000)]

    assert set(factors[:100]) == {0}
    assert max(factors) > 0.99
    assert all(factors[step] < 0.03 for step in (100, 999))
    middle = 100 + 90 + 405  # half-way down from the end of the warm-up
    assert abs(factors[middle] - 0.5) < 1e-2, "the cosine is half-way down in the middle"


def test_a_linear_probe_alone_has_no_schedule() -> None:
    assert rate_factor(make_config("transfer", epochs=1), 0, 10) == 0


def test_crops_are_small_first_and_full_at_the_end() -> None:
    config = make_config(epochs=20, small_crop_fraction=0.75)

    assert [crop_size(config, epoch) for epoch in (0, 14, 15, 19)] == [24, 24, 32, 32]
    assert crop_size(make_config("he2016"), 0) == 32


def test_the_moving_average_forgets_its_beginning() -> None:
    config = make_config("modern")
    share = 1.0  # of the first weights in the average
    for updates in range(1000):
        share *= average_decay(config, updates)

    assert share == 0
    assert average_decay(config, 100_000) == config.ema_decay == 0.999
    assert average_decay(make_config(), 100) == 0


def test_a_step_costs_what_its_pixels_cost_and_a_probe_a_third() -> None:
    config = make_config(epochs=4, probe=True, small_crop=16, small_crop_fraction=0.5)

    costs = [step_cost(config, epoch) for epoch in range(4)]

    assert costs == [1 / 3, 0.25, 1, 1]
