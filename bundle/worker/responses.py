"""What the process that holds a model answers: what it runs, and the images of a batch."""

from __future__ import annotations

from typing import NamedTuple, TypedDict

from bundle.errors import ImageError
from bundle.imaging.decode import ImageInfo
from bundle.runtimes import Embedding, Heatmap, Logits
from bundle.sandbox import Report


class RuntimeInfo(TypedDict):
    """What a worker reports when it is ready."""

    digest: str  # of the bundle's manifest, as the worker read it
    runtime: str
    runtime_version: str
    precision: str
    device: str
    artifact_id: str
    choice: str  # why this artifact
    streams: int  # forward passes that run at once
    batch_size: int | None  # the fastest in the bundle's measurement; None: not measured
    height: int
    width: int
    classes: int
    heatmap: tuple[int, int] | None  # height and width; None: the model has no heat maps
    embedding: int | None  # elements of the vector before the classifier; None: there is none
    golden_max_difference: float
    load_seconds: float
    isolation: Report  # empty: it is not confined
    signer: str | None  # who has signed the bundle; None: nobody has to


class Extras(NamedTuple):
    """What an image gets besides its logits, where the model has it."""

    class_index: int | None = None  # of the heat map; None: no heat map
    embedding: bool = False


class Classified(NamedTuple):
    """One image of a batch: logits float32 [C], and the description of a file; None for pixels."""

    logits: Logits
    info: ImageInfo | None
    heatmap: Heatmap | None = None  # raw, float32 [h, w], if it was asked for
    embedding: Embedding | None = None  # float32 [D], if it was asked for


class ClassifiedBatch(NamedTuple):
    """A batch in its order, and the seconds of its decoding and of its forward pass."""

    images: list[Classified | ImageError]
    decode_s: float
    infer_s: float
