"""Which artifact of a bundle runs: the one that was named, or the fastest whose answers are as good as the source's."""

from __future__ import annotations

from dataclasses import dataclass

from bundle.errors import RuntimeUnavailable
from bundle.format.manifest import Artifact, Manifest

AUTO, SOURCE = "auto", "source"
ACCURACY_TOLERANCE = 0.005  # what `auto` may lose against the source, as a share of the test images
SAME_FUNCTION = (
    1e-3  # logits this close are the source's own, whether their accuracy was measured or not
)
DEVICE_NAMES = {"cpu": "a CPU", "cuda": "a CUDA device"}
RUNTIME_NAMES = {
    "torchscript": "torchscript",
    "savedmodel": "tensorflow",
    "openvino": "openvino",
}


@dataclass(frozen=True)
class Choice:
    """An artifact to load, and why it and no other."""

    artifact: Artifact
    reason: str


def choices(manifest: Manifest, wanted: str, *, cuda: bool) -> list[Choice]:
    """The artifacts to try, best first; the next one is for the case that one does not load on this machine.

    Args:
        wanted: ``auto``, ``source``, or the id of an artifact, which is then the only one.
        cuda: whether the model may run on a CUDA device, for which only what was measured on one counts.

    Raises:
        RuntimeUnavailable: the bundle has no artifact of that id.
    """
    if wanted == SOURCE:
        return [Choice(manifest.source, "the source artifact, as set")]
    if wanted != AUTO:
        return [Choice(_by_id(manifest, wanted), "set by its id")]
    device = "cuda" if cuda else "cpu"
    gains = (
        (_gain(artifact, manifest.source, device), artifact) for artifact in manifest.artifacts
    )
    faster = sorted((pair for pair in gains if pair[0] > 1), key=lambda pair: pair[0], reverse=True)
    found = [
        Choice(artifact, f"measured {gain:.1f} times as fast as the source, with {good}")
        for gain, artifact in faster
        if (good := _as_good(manifest, artifact))
    ]
    if found:
        why = "the source artifact"
    elif faster:
        why = f"the source artifact: {faster[0][1].id} is faster and not known to be as accurate"
    else:
        why = f"the source artifact: the bundle has none that was measured to be faster on {DEVICE_NAMES[device]}"
    return [*found, Choice(manifest.source, why)]


def accuracy(manifest: Manifest, artifact: Artifact) -> float | None:
    """The recorded share of test images that ``artifact`` classifies correctly; None: not measured."""
    for metric in manifest.metrics:
        if (metric.name, metric.runtime, metric.precision) == (
            "accuracy",
            RUNTIME_NAMES[artifact.format],
            artifact.precision,
        ):
            return metric.value
    return None


def _by_id(manifest: Manifest, wanted: str) -> Artifact:
    if artifact := manifest.artifact(wanted):
        return artifact
    ids = ", ".join(artifact.id for artifact in manifest.artifacts)
    raise RuntimeUnavailable(
        f"The bundle has no such artifact. It has: {ids}. Received: {wanted!r}"
    )


def _gain(artifact: Artifact, source: Artifact, device: str) -> float:
    """How many times as many images per second as the source; 0: not measured. The source itself has 1."""
    own, of_source = artifact.speed(device), source.speed(device)
    if own is None or of_source is None:
        return 0.0
    return own.images_per_second / of_source.images_per_second


def _as_good(manifest: Manifest, artifact: Artifact) -> str:
    """What shows that the answers of ``artifact`` are as good as the source's; empty: they are not known to be."""
    own, of_source = accuracy(manifest, artifact), accuracy(manifest, manifest.source)
    if own is not None and of_source is not None:
        good = own >= of_source - ACCURACY_TOLERANCE
        return f"an accuracy of {own:.2%} against {of_source:.2%}" if good else ""
    derived = artifact.derivation
    if derived is not None and derived.max_logit_difference < SAME_FUNCTION:
        return f"logits within {derived.max_logit_difference:.1e} of its"
    return ""
