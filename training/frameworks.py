"""The two frameworks and every name that each of them goes by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FrameworkOption = Literal["torch", "keras"]


@dataclass(frozen=True)
class Framework:
    """One framework; its code is the package `training/<option>`."""

    option: FrameworkOption  # --framework
    manifest_name: str  # in a manifest
    model_suffix: str  # of the default name of a model
    extra: str  # of pyproject.toml, which installs it


FRAMEWORKS = {
    "torch": Framework("torch", manifest_name="pytorch", model_suffix="pytorch", extra="torch"),
    "keras": Framework(
        "keras", manifest_name="tensorflow", model_suffix="keras", extra="tensorflow"
    ),
}
