"""The values of the chart: each with its line of help, and wrong ones refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from helm_python.chart import Chart
from helm_python.errors import HelmError

from deploy.manifests import CHART, rendered
from tests.deploy.rendered import defaults

# What a person fills in with fields of Kubernetes' own.
OPEN = {"settings", "nodeSelector", "labels", "requests", "limits"}


def known(schema: dict[str, Any], at: str = "") -> Iterator[str]:
    """The paths of all values that the schema has."""
    for name, inner in schema["properties"].items():
        path = f"{at}.{name}".removeprefix(".")
        if "properties" in inner:
            assert inner["additionalProperties"] is False, path
            yield from known(inner, path)
        else:
            yield path


def given(values: dict[str, Any], at: str = "") -> Iterator[str]:
    for name, value in values.items():
        path = f"{at}.{name}".removeprefix(".")
        if isinstance(value, dict) and name not in OPEN:
            yield from given(value, path)
        else:
            yield path


def test_every_value_has_a_line_of_help() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()[1:]

    leaves = [line for line in lines if re.match(r" *\w+: *[^ #]", line) or "resources:" in line]
    described = [line for line in leaves if re.search(r"  +# \w", line)]
    # The two lines of `resources` are explained by the one above them.
    assert [line for line in leaves if line not in described and "{cpu" not in line] == [
        "    limits: {memory: 1Gi}"
    ]


def test_the_schema_has_the_values_and_no_others() -> None:
    with Chart.load(CHART) as chart:
        schema = chart.schema

    assert schema is not None
    missing = {"service.nodeSelector", "service.settings", "serviceMonitor.labels"}
    assert set(known(schema)) - {"global"} == {*given(defaults()), *missing}
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"sevice": {}}, "sevice"),
        ({"service": {"replica": 3}}, "replica"),
        ({"service": {"replicas": "3"}}, "replicas"),
        ({"service": {"port": 80}}, "port"),
        ({"service": {"settings": {"SERVICE_PORT": "1"}}}, "SERVICE_PORT"),
        ({"service": {"settings": {"SERVICE_CACHE_MB": 64}}}, "SERVICE_CACHE_MB"),
        ({"service": {"image": "resnet-service/service:1"}}, "image"),
        ({"models": {"source": "git"}}, "source"),
        ({"models": {"source": "image"}}, "models.image.reference"),
        ({"models": {"source": "pull"}}, "models.pull.args"),
        ({"models": {"pvc": {"claimName": ""}}}, "models.pvc.claimName"),
        ({"autoscaling": {"cpuPercent": 0}}, "cpuPercent"),
    ],
    ids=str,
)
def test_a_wrong_value_is_refused_by_its_name(values: dict[str, Any], said: str) -> None:
    with pytest.raises(HelmError, match=said):
        rendered(values)
