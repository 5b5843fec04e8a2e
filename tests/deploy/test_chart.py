"""The chart and the plain manifests: rendered by Helm, held against the schemas of Kubernetes."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import kubernetes_validate
import pytest
import yaml
from helm_python.chart import lint

from deploy.manifests import CHART, FOLDER, plain
from service.settings import PREFIX, Settings
from tests.deploy.rendered import ROOT, VALUES, Object, environment, every, objects, one, pods

GIVEN = [pytest.param(found, id=name) for name, found in every()]
NEWEST = kubernetes_validate.latest_version().rpartition(".")[0]
# Of the Prometheus operator: the fields of its API reference that the chart uses.
MONITOR: dict[str, Any] = {
    "selector": {"matchLabels": None},
    "endpoints": {
        **dict.fromkeys(("port", "path", "interval", "scheme")),
        "tlsConfig": {"serverName": None, "ca": {"secret": {"name": None, "key": None}}},
        "authorization": {"credentials": {"name": None, "key": None}},
        "relabelings": {"targetLabel": None, "replacement": None},
    },
}


def unknown(found: Any, known: Any, at: str = "") -> list[str]:
    """Fields that a custom resource has and its documentation does not."""
    if known is None:
        return []
    if isinstance(found, list):
        return [path for each in found for path in unknown(each, known, at)]
    return [
        path
        for name, value in found.items()
        for path in (unknown(value, known[name], f"{at}.{name}") if name in known else [name])
    ]


def versions(given: list[Object]) -> list[str]:
    """The oldest version of Kubernetes that has all of these fields, and the newest."""
    volumes = [v for pod in pods(given).values() for v in pod["spec"]["volumes"]]
    return ["1.33" if any("image" in volume for volume in volumes) else "1.28", NEWEST]


@pytest.mark.parametrize("given", GIVEN)
def test_every_object_has_the_schema_of_its_kind(given: list[Object]) -> None:
    for each in given:
        if each["kind"] == "ServiceMonitor":
            assert each["apiVersion"] == "monitoring.coreos.com/v1"
            assert unknown(each["spec"], MONITOR) == []
        else:
            for version in versions(given):
                kubernetes_validate.validate(each, version, strict=True)


def test_a_misspelled_field_breaks_the_schema() -> None:
    broken = one(objects({}), "Deployment")
    broken["spec"]["template"]["spec"]["enableServiceLink"] = False

    with pytest.raises(kubernetes_validate.ValidationError, match="enableServiceLink"):
        kubernetes_validate.validate(broken, NEWEST, strict=True)


@pytest.mark.parametrize("name", VALUES)
def test_helm_has_no_complaint(name: str) -> None:
    report = lint(CHART, VALUES[name], strict=True)

    # Only that there is no icon.
    assert [m for m in report["messages"] if m["severity"] > 1] == []
    assert report["errors"] == []


def test_the_plain_manifests_are_what_the_chart_gives() -> None:
    assert {path.name: path.read_text() for path in FOLDER.iterdir()} == plain()


def test_the_command_says_whether_they_are() -> None:
    command = [sys.executable, "-m", "deploy.manifests", "--check"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (0, "deploy/kubernetes is what the chart gives\n")


@pytest.mark.parametrize("given", GIVEN)
def test_no_pod_has_more_rights_than_it_needs(given: list[Object]) -> None:
    for pod in pods(given).values():
        spec = pod["spec"]
        assert (spec["automountServiceAccountToken"], spec["enableServiceLinks"]) == (False, False)
        security = spec["securityContext"]
        assert (security["runAsNonRoot"], security["runAsUser"]) == (True, 10001)
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]
            assert "/tmp" in [mount["mountPath"] for mount in container["volumeMounts"]]  # noqa: S108
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted <= {volume["name"] for volume in spec["volumes"]}


@pytest.mark.parametrize("given", GIVEN)
def test_what_selects_pods_finds_them_and_ports_are_there(given: list[Object]) -> None:
    found = pods(given)

    def ports(selector: dict[str, str]) -> set[str]:
        """Names of the ports of the one kind of pod that the labels select."""
        (pod,) = [p for p in found.values() if selector.items() <= p["metadata"]["labels"].items()]
        return {port["name"] for port in pod["spec"]["containers"][0]["ports"]}

    for each in given:
        spec = each["spec"]
        if each["kind"] == "Service":
            assert {port["targetPort"] for port in spec["ports"]} <= ports(spec["selector"])
        elif each["kind"] == "NetworkPolicy":
            allowed = {port["port"] for rule in spec["ingress"] for port in rule["ports"]}
            assert allowed == ports(spec["podSelector"]["matchLabels"])
        elif each["kind"] == "Deployment":
            (container,) = spec["template"]["spec"]["containers"]
            probes = [container[f"{name}Probe"] for name in ("startup", "liveness", "readiness")]
            named = {probe["httpGet"]["port"] for probe in probes}
            assert named <= ports(spec["selector"]["matchLabels"])
        elif each["kind"] == "PodDisruptionBudget":
            assert ports(spec["selector"]["matchLabels"])
        elif each["kind"] == "HorizontalPodAutoscaler":
            assert spec["scaleTargetRef"]["name"] in found
            assert "replicas" not in one(given, "Deployment")["spec"]
        else:
            labels = spec["selector"]["matchLabels"].items()
            (service,) = [
                o
                for o in given
                if o["kind"] == "Service" and labels <= o["metadata"]["labels"].items()
            ]
            assert spec["endpoints"][0]["port"] in {p["name"] for p in service["spec"]["ports"]}


@pytest.mark.parametrize("given", GIVEN)
def test_the_service_knows_every_setting_and_its_files_are_mounted(given: list[Object]) -> None:
    container = pods(given)["resnet-service"]["spec"]["containers"][0]
    names = {PREFIX + name.upper() for name in Settings.model_fields}
    folders = {mount["mountPath"] for mount in container["volumeMounts"]}

    assert {e["name"] for e in container["env"] if e["name"].startswith(PREFIX)} <= names
    for name, value in environment(container).items():
        if value.startswith("/etc/"):
            assert value.rpartition("/")[0] in folders, name


@pytest.mark.parametrize("given", GIVEN)
def test_a_pod_has_the_time_to_drain(given: list[Object]) -> None:
    spec = pods(given)["resnet-service"]["spec"]
    settings = environment(spec["containers"][0])
    draining = int(settings["SERVICE_DRAIN_DELAY_S"]) + int(settings["SERVICE_DRAIN_TIMEOUT_S"])

    assert spec["terminationGracePeriodSeconds"] == draining + 10


def test_the_autoscaler_and_the_adapter_mean_a_metric_of_the_service() -> None:
    locked = objects(VALUES["locked, watched, placed"])
    metrics = one(locked, "HorizontalPodAutoscaler")["spec"]["metrics"]
    adapter = yaml.safe_load((ROOT / "deploy/helm/prometheus-adapter.yaml").read_text())
    name = metrics[1]["pods"]["metric"]["name"]

    (rule,) = adapter["rules"]["custom"]
    assert rule["seriesQuery"].startswith(f"{name}{{")
    assert f"| `{name}` | gauge |" in (ROOT / "docs/operation.md").read_text()
