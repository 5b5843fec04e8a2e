from __future__ import annotations

import pytest

from frontend.metrics import by, quantile, samples, total
from tests.frontend.fake_records import METRICS


def test_samples_have_names_labels_and_values() -> None:
    (first, *_), text = samples(METRICS), '# HELP x y\nbad line\nx{a="b\\"c"} NaN\ny 3 17\n'

    assert (first.name, first.value) == ("http_requests_total", 40)
    assert first.labels == {"method": "POST", "route": "/predict", "status": "200"}
    assert [each.name for each in samples(text)] == ["x", "y"]


def test_sums_are_by_label() -> None:
    found = samples(METRICS)

    assert by(found, "http_requests_total", "status", route="/predict") == {"200": 40, "422": 2}
    assert total(found, "resnet_worker_restarts_total") == 1
    assert total(found, "resnet_worker_restarts_total", model="another") == 0


@pytest.mark.parametrize(
    ("q", "seconds"), [(0.25, 0.00525), (0.5, 0.0145), (0.99, 0.1)], ids=["inside", "next", "open"]
)
def test_a_quantile_lies_inside_of_its_bucket(q: float, seconds: float) -> None:
    found = samples(METRICS)

    assert quantile(found, "http_request_duration_seconds", q, route="/predict") == pytest.approx(
        seconds
    )


def test_without_observations_there_is_no_quantile() -> None:
    assert quantile([], "http_request_duration_seconds", 0.5) is None
