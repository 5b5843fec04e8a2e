"""The sizes and the simulated day of docs/scale.md."""

from __future__ import annotations

import dataclasses
import re

import pytest

from benchmarks.scale.__main__ import PAGE, PLANS, SHOWN, plot, tables
from benchmarks.scale.costs import CORES, Model, Size, assumed, measured
from benchmarks.scale.day import DAY, Day, Plan, Simulation, traffic

SHORT = Plan(horizon=1200, lost_at=None, least=3)


def run(**changes: float | None) -> Day:
    return Simulation(dataclasses.replace(SHORT, **changes)).run()  # type: ignore[arg-type]


def test_the_page_has_the_tables_that_are_computed() -> None:
    page = PAGE.read_text()

    for name, table in tables({}):
        (found,) = re.findall(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", page, re.DOTALL)
        assert found == table


def test_the_page_has_a_row_for_each_simulated_day() -> None:
    rows = re.search(r"<!-- days -->\n(.*?)\n<!-- /days -->", PAGE.read_text(), re.DOTALL)

    assert rows is not None
    assert [line.split(" | ")[0][2:] for line in rows[1].splitlines()[2:]] == list(PLANS)


def test_the_measurements_are_those_of_the_results() -> None:
    large, small = measured()

    assert (large.name, small.name) == ("ResNet-50", "ResNet-20")
    assert small.rate > large.rate > CORES
    # The simulated day is that of ResNet-50.
    assert Plan().service_s == pytest.approx(1 / large.per_core)


def test_a_load_needs_its_cores_and_three_machines() -> None:
    model = Model("tiny", 20.0, 1.0, 1.0)  # 10 requests/s of a core, 1000 of its web process

    size = Size(model, 6000)

    assert size.cores == pytest.approx(1000)
    assert (size.machine, size.machines) == (192, 6)
    assert model.pod_cores == 32  # 320 requests/s, a third of what the web process can
    used = size.used()
    assert used["cores"] == pytest.approx(600 / (6 * 192))
    assert used["web process"] == pytest.approx(6000 / 32 / 1000, rel=0.01)
    assert Size(model, 1).machines == 3
    assert size.dollars == pytest.approx(6 * 192 * assumed("price") * 730)


def test_the_rate_of_a_day_has_its_peak_in_the_evening_and_the_assumed_average() -> None:
    rates = [traffic(second, 200.0) for second in range(0, DAY, 60)]

    assert max(rates) == pytest.approx(200) == traffic(20 * 3600, 200.0)
    assert min(rates) == pytest.approx(60, rel=0.01)
    assert sum(rates) / len(rates) / 200 == pytest.approx(assumed("average"), rel=0.001)


def test_a_day_is_the_same_for_a_seed_and_another_for_another() -> None:
    assert run() == run()
    assert run().requests != run(seed=1).requests


def test_a_queue_refuses_what_the_cores_cannot_take() -> None:
    enough, few = run(), run(fixed=1)

    assert (enough.refused, enough.slow) == (0, 0)
    # One pod of two cores, which never rest.
    assert few.requests - few.refused == pytest.approx(1200 * 86, rel=0.02)
    assert max(few.p99) == pytest.approx(1000 * 258 * SHORT.service_s / 2, rel=0.02)


def test_the_autoscaler_follows_the_load_both_ways() -> None:
    grown = run(least=1, most=10, peak=600.0, lost_at=None, started_s=10.0)
    assert grown.most_pods == pytest.approx(traffic(1200, 600.0) / 86 / 0.7, abs=1.5)

    shrunk = Simulation(dataclasses.replace(SHORT, least=1, horizon=4 * 3600, peak=300.0)).run()
    assert shrunk.pods[-1] < shrunk.pods[0]


def test_a_lost_node_costs_what_is_sent_to_it_until_it_is_noticed() -> None:
    late = run(fixed=4, lost_at=600.0, lost=1, noticed_s=50.0, replaced_s=300.0)
    early = run(fixed=4, lost_at=600.0, lost=1, noticed_s=5.0, replaced_s=300.0)

    # A quarter of the requests, and of these a quarter again.
    assert late.failed_once == pytest.approx(50 * traffic(600, 200.0) / 4, rel=0.1)
    assert late.failed == pytest.approx(late.failed_once / 4, rel=0.2)
    assert early.failed_once < late.failed_once / 5
    assert (late.pods[-1], min(late.pods)) == (4, 3)


def test_an_autoscaler_by_the_queue_replaces_lost_pods_and_one_by_cpu_does_not() -> None:
    lost = {"lost_at": 300.0, "lost": 2, "replaced_s": 5000.0, "noticed_s": 5.0}

    by_cpu, by_queue = run(**lost), run(**lost, queue_target=8.0)

    assert by_cpu.pods[-1] == 1
    assert by_queue.pods[-1] >= 3
    assert by_queue.refused < by_cpu.refused


def test_the_plot_is_drawn_from_the_plans_that_it_names() -> None:
    day = run()

    figure = plot(dict.fromkeys(PLANS, day))

    legend = figure.axes[2].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == list(SHOWN)
    assert set(SHOWN) <= PLANS.keys()
