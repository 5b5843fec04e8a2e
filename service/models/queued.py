"""An image in the queue of a model, and what comes of it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import NamedTuple

from bundle.imaging.decode import ImageInfo
from bundle.runtimes import Embedding, Heatmap, Logits
from bundle.worker.model_process import Pixels
from bundle.worker.responses import Extras


class Classification(NamedTuple):
    """One image: logits float32 [C], the description of its file, and seconds of each stage."""

    logits: Logits
    info: ImageInfo | None  # None: it was queued as pixels
    decode_s: float
    queue_s: float
    inference_s: float
    by_decoder: bool = False  # before it was queued
    heatmap: Heatmap | None = None  # raw, float32 [h, w], if it was asked for
    embedding: Embedding | None = None  # float32 [D], if it was asked for


class ProcessLost(Exception):
    """The process ended with this file; what decodes it may be to blame, or the network."""


@dataclass(eq=False)
class QueuedImage:
    """One image in the queue: a file, or pixels uint8 [H, W, 3] of the model's input size."""

    image: bytes | Pixels
    # Digest of the bundle that it is for.
    bundle: str
    future: asyncio.Future[Classification]
    # What it gets besides logits; None: nothing.
    extras: Extras | None = None
    # A process has ended with it; it runs alone, and is to blame if another one ends.
    suspect: bool = False
    # The request that it is of, where the queue is fair between clients.
    owner: object = None
    since: float = field(default_factory=time.perf_counter)
