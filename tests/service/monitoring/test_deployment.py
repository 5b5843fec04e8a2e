"""What deploy/monitoring asks of the service exists, and Prometheus accepts it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from service.app import create_app
from service.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "deploy/monitoring"
DASHBOARD = json.loads((FOLDER / "grafana/dashboards/resnet-service.json").read_text())
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
NAMES = ("prometheus", "grafana")
# Written by Prometheus itself; by the client library for the process.
OTHERS = {"up", "ALERTS", "process_resident_memory_bytes"}


def rules(file: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / file).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


RULES, ALERTS = rules("rules.yml"), rules("alerts.yml")
EXPRESSIONS = {
    **{rule.get("record") or rule["alert"]: rule["expr"] for rule in [*RULES, *ALERTS]},
    **{
        f"{panel['title']}, {target['refId']}": target["expr"]
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", [])
    },
    **{each["name"]: each["expr"] for each in DASHBOARD["annotations"]["list"]},
}


def documented() -> set[str]:
    """Names of the samples that the service has: a test holds the page to its /metrics."""
    rows = re.findall(
        r"^\| `((?:http|resnet)_\w+)` \| (\w+)", (ROOT / "docs/operation.md").read_text(), re.M
    )
    suffixes = {"histogram": ("_bucket", "_sum", "_count")}
    return {name + suffix for name, kind in rows for suffix in suffixes.get(kind, ("",))}


def selectors(expression: str) -> list[promql_parser.VectorSelector]:
    found: list[promql_parser.VectorSelector] = []

    def keep(node: promql_parser.Expr) -> bool:
        if isinstance(node, promql_parser.MatrixSelector):
            node = node.vector_selector
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        return True

    promql_parser.walk(promql_parser.parse(expression), keep)
    return found


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_every_expression_is_valid_and_its_metrics_exist(name: str) -> None:
    known = documented() | {rule["record"] for rule in RULES} | OTHERS

    named = {each.name for each in selectors(EXPRESSIONS[name])}

    assert named <= known


def test_the_routes_that_expressions_name_exist() -> None:
    paths = {getattr(route, "path", "") for route in create_app(Settings()).routes}
    matchers = [
        matcher
        for expression in EXPRESSIONS.values()
        for selector in selectors(expression)
        for matcher in selector.matchers.matchers
        if matcher.name == "route"
    ]

    assert matchers
    for matcher in matchers:
        for pattern in matcher.value.split("|"):
            assert [path for path in paths if re.fullmatch(pattern, path)], pattern


def test_every_alert_says_how_urgent_it_is_and_what_to_do() -> None:
    for alert in ALERTS:
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert set(alert["annotations"]) == {"summary", "action"}


def test_every_panel_has_an_id_of_its_own_and_reads_the_data_source_that_there_is() -> None:
    (source,) = yaml.safe_load(
        (FOLDER / "grafana/provisioning/datasources/prometheus.yml").read_text()
    )["datasources"]
    ids = [panel["id"] for panel in DASHBOARD["panels"]]

    assert len(set(ids)) == len(ids)
    used = {panel["datasource"]["uid"] for panel in DASHBOARD["panels"] if "datasource" in panel}
    assert used == {source["uid"]}
    assert source["url"] == "http://prometheus:9090"


@pytest.mark.parametrize("name", NAMES)
def test_the_containers_of_the_profile_are_hardened_and_pinned(name: str) -> None:
    service = COMPOSE[name]

    assert service["profiles"] == ["monitoring"]
    assert re.fullmatch(r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+", service["image"])
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["ports"][0].startswith("${BIND_HOST:-127.0.0.1}:")
    assert {"mem_limit", "pids_limit", "healthcheck"} <= set(service)
    for volume in service["volumes"]:
        folder, *_, how = volume.split(":")
        assert not folder.startswith(".") or (how == "ro" and (ROOT / folder).is_dir()), volume


def test_prometheus_scrapes_the_port_of_the_service() -> None:
    (job,) = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]

    assert job["static_configs"] == [{"targets": ["service:8000"]}]
    assert COMPOSE["service"]["ports"][0].endswith(":8000")
    assert {rule["expr"] for rule in ALERTS if rule["alert"] == "ServiceDown"} == {
        f'up{{job="{job["job_name"]}"}} == 0'
    }


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize(
    "arguments",
    [("check", "config", "prometheus.yml"), ("test", "rules", "rules.test.yml")],
    ids=["config", "rules"],
)
def test_promtool_accepts_the_files_and_the_alerts_fire_when_they_should(
    arguments: tuple[str, ...],
) -> None:
    done = subprocess.run(
        ["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
