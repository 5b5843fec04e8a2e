"""The ImageNet weights that ship with the project: a bundle in its model repository."""

from __future__ import annotations

from pathlib import Path

from bundle.errors import BundleError
from bundle.format.manifest import read_manifest
from bundle.format.repository import list_bundles
from training.config import network_options

SHIPPED = "imagenet-resnet50"
NETWORK = ("pytorch", "resnet50-v1")  # its framework and network, which Keras can start from too
MODELS = Path(__file__).resolve().parents[2] / "models"


def shipped_weights(arch: str, repository: Path) -> Path | None:
    """The newest version of the shipped model in `repository`, or in the project's own.

    Returns:
        The folder of the bundle; None if there is none, or the weights are not of `arch`.
    """
    if network_options(NETWORK[1])["arch"] != arch:
        return None
    for folder in (repository, MODELS):
        for ref in reversed(list_bundles(folder)):
            if ref.name == SHIPPED and _framework_and_network(ref.path) == NETWORK:
                return ref.path
    return None


def network_of(bundle: Path) -> dict[str, str]:
    """The options of `make_config` for the network of a bundle.

    Raises:
        BundleError: Its manifest can't be read.
    """
    return network_options(str(read_manifest(bundle).architecture.name))


def _framework_and_network(bundle: Path) -> tuple[str, str | None] | None:
    try:
        manifest = read_manifest(bundle)
    except BundleError:
        return None
    return manifest.framework.name, manifest.architecture.name
