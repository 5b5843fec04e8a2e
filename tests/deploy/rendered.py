"""What the chart gives for sets of values, and questions that several tests ask of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from helm_python.chart import Chart

from deploy.manifests import CHART, rendered

ROOT = Path(__file__).resolve().parents[2]
Object = dict[str, Any]

# Each template, each of its branches.
VALUES: dict[str, Object] = {
    "defaults": {},
    "bundled, one port, no policies": {
        "models": {"source": "bundled"},
        "service": {"adminPort": 0, "replicas": 1},
        "autoscaling": {"enabled": False},
        "disruptionBudget": {"enabled": False},
        "networkPolicy": {"enabled": False},
        "frontend": {"enabled": False},
        "serviceMonitor": {"enabled": True},
    },
    "claim with a folder": {"models": {"pvc": {"claimName": "shared", "subPath": "models"}}},
    "image volume": {"models": {"source": "image", "image": {"reference": "models:1"}}},
    "pulled": {
        "models": {
            "source": "pull",
            "pull": {"args": ["copy", "store:models", "/models"], "secretName": "store"},
        },
        "networkPolicy": {"egress": [{"ports": [{"port": 4318}]}]},
    },
    "locked, watched, placed": {
        "apiKeys": {"secretName": "keys"},
        "adminKey": {"secretName": "admin"},
        "tls": {"secretName": "tls"},
        "service": {
            "image": "registry.example:5000/resnet-service/service-gpu",
            "settings": {"SERVICE_CACHE_MB": "64", "OTEL_TRACES_EXPORTER": "otlp"},
            "resources": {"limits": {"nvidia.com/gpu": "1"}},
            "nodeSelector": {"kubernetes.io/arch": "amd64"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        },
        "frontend": {
            "publicServiceUrl": "https://images.example",
            "apiKey": {"secretName": "page"},
        },
        "autoscaling": {"queue": {"enabled": True}},
        "networkPolicy": {
            "clients": [{"namespaceSelector": {"matchLabels": {"name": "shop"}}}],
            "monitoring": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
            "egress": [{"ports": [{"port": 4318}]}],
        },
        "serviceMonitor": {
            "enabled": True,
            "keySecretName": "admin",
            "labels": {"release": "prometheus"},
        },
    },
}


def objects(values: Object) -> list[Object]:
    """The objects that these values give."""
    return [yaml.safe_load(text) for text in rendered(values).values()]


def every() -> list[Any]:
    """One parameter of pytest for each set of values."""
    return [(name, objects(values)) for name, values in VALUES.items()]


def one(given: list[Object], kind: str, name: str = "resnet-service") -> Object:
    """The object of this kind and name."""
    (found,) = [o for o in given if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    return found


def pods(given: list[Object]) -> dict[str, Object]:
    """The pod templates by the name of their Deployment."""
    return {
        o["metadata"]["name"]: o["spec"]["template"] for o in given if o["kind"] == "Deployment"
    }


def environment(container: Object) -> dict[str, str]:
    """The variables of a container that have a value of their own."""
    return {each["name"]: each["value"] for each in container.get("env", []) if "value" in each}


def defaults() -> Object:
    """The values of the chart."""
    with Chart.load(CHART) as chart:
        values: Object = chart.values
    return values
