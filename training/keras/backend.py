"""The Keras backend: the modules of this folder as one `training.backend.Backend`."""

from __future__ import annotations

from training.keras import devices, weights
from training.keras.trainer import ARTIFACT, PACKAGES, Trainer, set_threads

__all__ = [
    "ARTIFACT",
    "PACKAGES",
    "Trainer",
    "devices",
    "set_threads",
    "weights",
]
