"""The ImageNet weights that ship with the project: a bundle in its model repository."""

from __future__ import annotations

from pathlib import Path

from bundle.errors import BundleError
from bundle.format.manifest import read_manifest
from bundle.format.repository import list_bundles
from training.config import network_options

SHIPPED = "imagenet-resnet50"
FRAMEWORK, NETWORK = "pytorch", "resnet50-v1"  # of its bundles that Keras can start from too
MODELS = Path(__file__).resolve().parents[2] / "models"


def shipped_weights(arch: str, repository: Path) -> Path | None:
    """The newest version of the shipped model in `repository`, or in the project's own.

    Returns:
        The folder of the bundle; None if there is none, or the weights are not of `arch`.
    """
    if network_options(NETWORK)["arch"] != arch:
        return None
    for folder in (repository, MODELS):
        for ref in reversed(list_bundles(folder)):
            if ref.name == SHIPPED and _can_start(ref.path):
                return ref.path
    return None


def _can_start(bundle: Path) -> bool:
    try:
        manifest = read_manifest(bundle)
    except BundleError:
        return False
    return (manifest.framework.name, manifest.architecture.name) == (FRAMEWORK, NETWORK)
