"""The manifests for KServe, whose schemas are in no package: by the fields of its API reference."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import yaml

from service.settings import PREFIX, Settings
from tests.deploy.rendered import ROOT, environment

FOLDER = ROOT / "deploy/kserve"
RUNTIME: dict[str, Any] = yaml.safe_load((FOLDER / "serving-runtime.yaml").read_text())
SERVICE: dict[str, Any] = yaml.safe_load((FOLDER / "inference-service.yaml").read_text())
CONTAINER: dict[str, Any] = RUNTIME["spec"]["containers"][0]
# The fields of KServe's API that these manifests use, from the classes of its Python package 0.21.
SERVING_RUNTIME = {
    *("annotations", "containers", "multiModel", "protocolVersions", "supportedModelFormats"),
    "volumes",
}
PREDICTOR = {
    *("enableServiceLinks", "maxReplicas", "minReplicas", "model", "scaleMetric", "scaleTarget"),
    "terminationGracePeriodSeconds",
}
MODEL = {"modelFormat", "protocolVersion", "runtime", "storageUri"}


def test_both_have_documented_fields_alone() -> None:
    assert (RUNTIME["apiVersion"], RUNTIME["kind"]) == (
        "serving.kserve.io/v1alpha1",
        "ServingRuntime",
    )
    assert (SERVICE["apiVersion"], SERVICE["kind"]) == (
        "serving.kserve.io/v1beta1",
        "InferenceService",
    )
    assert RUNTIME["spec"].keys() == SERVING_RUNTIME
    assert SERVICE["spec"].keys() == {"predictor"}
    assert SERVICE["spec"]["predictor"].keys() == PREDICTOR
    assert SERVICE["spec"]["predictor"]["model"].keys() == MODEL
    for supported in RUNTIME["spec"]["supportedModelFormats"]:
        assert supported.keys() == {"name", "version", "autoSelect"}


def test_their_pod_has_the_schema_of_a_pod() -> None:
    spec = {
        **{name: RUNTIME["spec"][name] for name in ("containers", "volumes")},
        **{
            name: SERVICE["spec"]["predictor"][name]
            for name in ("enableServiceLinks", "terminationGracePeriodSeconds")
        },
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "runtime"}, "spec": spec}

    kubernetes_validate.validate(pod, "1.33", strict=True)


def test_the_inference_service_asks_for_what_the_runtime_offers() -> None:
    model = SERVICE["spec"]["predictor"]["model"]
    offered = [
        {k: f[k] for k in ("name", "version")} for f in RUNTIME["spec"]["supportedModelFormats"]
    ]

    assert model["runtime"] == RUNTIME["metadata"]["name"]
    assert model["modelFormat"] in offered
    assert model["protocolVersion"] in RUNTIME["spec"]["protocolVersions"]
    assert CONTAINER["name"] == "kserve-container"


def test_the_service_listens_where_kserve_asks_and_has_the_time_to_drain() -> None:
    given = environment(CONTAINER)
    (port,) = [each["containerPort"] for each in CONTAINER["ports"]]
    draining = int(given["SERVICE_DRAIN_DELAY_S"]) + int(given["SERVICE_DRAIN_TIMEOUT_S"])

    assert given.keys() <= {PREFIX + name.upper() for name in Settings.model_fields}
    assert given["SERVICE_PORT"] == str(port)
    for probe in ("readinessProbe", "livenessProbe"):
        assert CONTAINER[probe]["httpGet"]["port"] == port
    assert RUNTIME["spec"]["annotations"]["prometheus.kserve.io/port"] == str(port)
    assert SERVICE["spec"]["predictor"]["terminationGracePeriodSeconds"] == draining + 10
