"""Manifests of earlier schema versions, as those of the current one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bundle.format.certainty import NOT_MEASURED

EARLIER_VERSIONS = (1, 2, 3, 4, 5)


def from_earlier(fields: dict[str, Any], current: int) -> dict[str, Any]:
    """The fields of an earlier version as those of this one; the validation finds what is wrong.

    Version 1 had the source artifact only, without speeds; version 2 one speed, on the CPU; version
    3 trained models with heat maps only, measured on all of their labels; version 4 no baseline;
    version 5 nothing of when a model is unsure, and no card.
    """
    version, artifacts = fields["schema_version"], fields.get("artifacts")
    if version == 5:
        return NOT_MEASURED | fields | {"schema_version": current}
    if version == 4:
        return NOT_MEASURED | {"baseline": None} | fields | {"schema_version": current}
    if version == 1:
        artifacts = _each(artifacts, lambda artifact: artifact | {"derivation": None, "speeds": []})
    elif version == 2:
        artifacts = _each(artifacts, _with_speeds)
    metrics = _each(fields.get("metrics"), lambda metric: metric | {"labels": None})
    new = {"artifacts": artifacts, "metrics": metrics, "label_ids": None, "imported": None}
    new |= {"baseline": None} | NOT_MEASURED
    architecture = fields.get("architecture")
    if isinstance(architecture, dict) and isinstance(size := architecture.get("feature_map"), dict):
        new["heatmap"] = {"method": "class_activation"} | size
        new["architecture"] = {
            key: value for key, value in architecture.items() if key != "feature_map"
        }
    return fields | new | {"schema_version": current}


def _with_speeds(artifact: dict[str, Any]) -> dict[str, Any]:
    if "speed" not in artifact:
        return artifact
    speed = artifact["speed"]
    speeds = [] if speed is None else _each([speed], lambda found: {"device": "cpu"} | found)
    return {key: value for key, value in artifact.items() if key != "speed"} | {"speeds": speeds}


def _each(found: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """Change the objects of a list; the validation reports what is not a list or not an object."""
    if not isinstance(found, list):
        return found
    return [change(item) if isinstance(item, dict) else item for item in found]
