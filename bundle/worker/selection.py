"""Which artifact runs: the one that is named, or the fastest that is as accurate as the source."""

from __future__ import annotations

from dataclasses import dataclass

from bundle.errors import RuntimeUnavailable
from bundle.format.manifest import Artifact, Manifest, Metric

AUTO, SOURCE = "auto", "source"
# The accuracy that `auto` may lose against the source, as a share of the test images.
ACCURACY_TOLERANCE = 0.005
# Logits this close count as the source's own, whether the accuracy was measured or not.
SAME_FUNCTION = 1e-3
DEVICE_NAMES = {"cpu": "a CPU", "cuda": "a CUDA device"}
RUNTIME_NAMES = {
    "torchscript": "torchscript",
    "savedmodel": "tensorflow",
    "openvino": "openvino",
}


@dataclass(frozen=True)
class Candidate:
    """An artifact to load, and why this one."""

    artifact: Artifact
    reason: str


def candidates(manifest: Manifest, requested: str, *, cuda: bool) -> list[Candidate]:
    """The artifacts to try, best first: the next one is for a machine on which one does not load.

    Args:
        manifest: The record of the bundle.
        requested: `auto`, `source`, or the id of an artifact, which is then the only candidate.
        cuda: Whether the model may run on a CUDA device; then only measurements on one count.

    Raises:
        RuntimeUnavailable: The bundle has no artifact with that id.
    """
    if requested == SOURCE:
        return [Candidate(manifest.source, "the source artifact, as set")]
    if requested != AUTO:
        return [Candidate(_by_id(manifest, requested), "set by its id")]
    device = "cuda" if cuda else "cpu"
    speedups = (
        (_speedup(artifact, manifest.source, device), artifact) for artifact in manifest.artifacts
    )
    faster = sorted(
        (pair for pair in speedups if pair[0] > 1), key=lambda pair: pair[0], reverse=True
    )
    found = [
        Candidate(artifact, f"measured {speedup:.1f} times as fast as the source, with {evidence}")
        for speedup, artifact in faster
        if (evidence := _accuracy_evidence(manifest, artifact))
    ]
    why = "the source artifact"
    if not found and faster:
        why += f": {faster[0][1].id} is faster and not known to be as accurate"
    elif not found:
        where = DEVICE_NAMES[device]
        why += f": the bundle has none that was measured to be faster on {where}"
    return [*found, Candidate(manifest.source, why)]


def accuracy_record(manifest: Manifest, artifact: Artifact) -> Metric | None:
    """The record of the accuracy of `artifact` on the test images; None: not measured."""
    wanted = ("accuracy", RUNTIME_NAMES[artifact.format], artifact.precision)
    return next(
        (each for each in manifest.metrics if (each.name, each.runtime, each.precision) == wanted),
        None,
    )


def accuracy(manifest: Manifest, artifact: Artifact) -> float | None:
    """The recorded accuracy of `artifact` on the test images, 0 to 1; None: not measured."""
    record = accuracy_record(manifest, artifact)
    return None if record is None else record.value


def _by_id(manifest: Manifest, requested: str) -> Artifact:
    if artifact := manifest.artifact(requested):
        return artifact
    ids = ", ".join(artifact.id for artifact in manifest.artifacts)
    raise RuntimeUnavailable(
        f"The bundle has no such artifact. It has: {ids}. Received: {requested!r}"
    )


def _speedup(artifact: Artifact, source: Artifact, device: str) -> float:
    """Images per second as a multiple of the source's; 0: not measured. The source itself has 1."""
    own, of_source = artifact.speed(device), source.speed(device)
    if own is None or of_source is None:
        return 0.0
    return own.images_per_second / of_source.images_per_second


def _accuracy_evidence(manifest: Manifest, artifact: Artifact) -> str:
    """The evidence that `artifact` is as accurate as the source; empty: there is none."""
    own, of_source = accuracy(manifest, artifact), accuracy(manifest, manifest.source)
    if own is not None and of_source is not None:
        good = own >= of_source - ACCURACY_TOLERANCE
        return f"an accuracy of {own:.2%} against {of_source:.2%}" if good else ""
    derived = artifact.derivation
    if derived is not None and derived.max_logit_difference < SAME_FUNCTION:
        return f"logits within {derived.max_logit_difference:.1e} of its"
    return ""
