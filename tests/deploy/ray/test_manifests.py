"""The configuration of Serve by Ray's own schema, and the manifest for KubeRay by its parts.

The schema of a RayService is in no Python package: its fields are those of KubeRay's reference.
"""

from __future__ import annotations

import inspect
from typing import Any

import kubernetes_validate
import pytest
import yaml
from pydantic import ValidationError
from ray.serve.schema import ServeDeploySchema

from deploy.ray.app import build
from deploy.ray.options import Args
from service.settings import Settings
from tests.service.shipped import ROOT

FOLDER = ROOT / "deploy/ray"
CONFIG: dict[str, Any] = yaml.safe_load((FOLDER / "serve.yaml").read_text())
RAY_SERVICE, BUDGET = yaml.safe_load_all((FOLDER / "rayservice.yaml").read_text())
CLUSTER = RAY_SERVICE["spec"]["rayClusterConfig"]
HEAD, (WORKERS,) = CLUSTER["headGroupSpec"], CLUSTER["workerGroupSpecs"]
WORKER_GROUP = {
    *("groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"),
}
TEMPLATES = pytest.mark.parametrize(
    "template", [HEAD["template"], WORKERS["template"]], ids=["head", "worker"]
)


@pytest.mark.parametrize(
    "config",
    [CONFIG, yaml.safe_load(RAY_SERVICE["spec"]["serveConfigV2"])],
    ids=["serve.yaml", "rayservice.yaml"],
)
def test_a_configuration_of_serve_has_rays_schema_and_our_arguments(config: dict[str, Any]) -> None:
    found = ServeDeploySchema.model_validate(config)

    # Ray ignores what it does not know.
    assert config.keys() <= ServeDeploySchema.model_fields.keys()
    (application,) = found.applications
    assert application.import_path == "deploy.ray.app:build"
    Args.model_validate(application.args)
    variables = application.runtime_env["env_vars"]
    assert {name.removeprefix("SERVICE_").lower() for name in variables} <= (
        Settings.model_fields.keys()
    )


def test_a_ray_service_has_documented_fields_alone() -> None:
    assert (RAY_SERVICE["apiVersion"], RAY_SERVICE["kind"]) == ("ray.io/v1", "RayService")
    assert RAY_SERVICE["spec"].keys() == {"upgradeStrategy", "serveConfigV2", "rayClusterConfig"}
    assert CLUSTER.keys() == {
        *("rayVersion", "enableInTreeAutoscaling", "headGroupSpec", "workerGroupSpecs"),
    }
    assert HEAD.keys() == {"rayStartParams", "template"}
    assert WORKERS.keys() == WORKER_GROUP


@TEMPLATES
def test_its_pods_have_the_schema_of_a_pod(template: dict[str, Any]) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ray"}, "spec": template["spec"]}

    kubernetes_validate.validate(pod, "1.33", strict=True)


def test_the_budget_is_of_the_workers() -> None:
    kubernetes_validate.validate(BUDGET, "1.33", strict=True)
    assert BUDGET["spec"]["selector"]["matchLabels"] == WORKERS["template"]["metadata"]["labels"]


@TEMPLATES
def test_every_pod_has_the_models_where_the_service_looks(template: dict[str, Any]) -> None:
    config = yaml.safe_load(RAY_SERVICE["spec"]["serveConfigV2"])
    (container,) = template["spec"]["containers"]

    assert [mount["mountPath"] for mount in container["volumeMounts"]] == [
        config["applications"][0]["runtime_env"]["env_vars"]["SERVICE_MODELS_DIR"]
    ]


def test_serve_takes_the_class_of_the_arguments_from_the_builder() -> None:
    assert inspect.signature(build).parameters["args"].annotation is Args


@pytest.mark.parametrize(
    "args",
    [
        {"replicas": 2},
        {"own": {"min_replicas": 3, "max_replicas": 2}},
        {"others": {"models_per_replica": 0}},
    ],
    ids=["unknown", "no range", "no model"],
)
def test_wrong_arguments_are_refused(args: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Args.model_validate(args)
