"""What training requires of a framework: protocols that two backends implement.

`training/commands/options.py` loads one of `training.torch.backend` and `training.keras.backend`;
mypy checks there that both satisfy `Backend`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bundle.normalisation import Normalisation
from training.config import TrainConfig
from training.weights.initial import Initial, WeightsLike


class TrainerLike(Protocol):
    """A network with its optimizer, as the training loop and the export use it."""

    parameters: int
    feature_map: tuple[int, int, int]  # height, width, channels
    normalisation: Normalisation
    initial: dict[str, Any]  # where the weights came from, as in the manifest
    rank: int  # of this process, from 0
    world_size: int  # the number of processes that share each batch

    def train_step(
        self, pixels: NDArray[np.uint8], targets: NDArray[np.float32], factor: float
    ) -> tuple[float, int]:
        """One step on this rank's part of a batch: pixels [B, H, W, 3] and soft targets [B, C].

        Returns:
            The mean loss and the number of correct predictions, over all ranks.
        """

    def broadcast_metrics(self, metrics: dict[str, float]) -> dict[str, float]:
        """Broadcast rank 0's metrics so that every rank takes the same decisions."""

    def predict(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits [N, C] of pixels [N, H, W, 3], in inference mode."""

    def features(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The input [N, F] of the classifier for pixels [N, H, W, 3], in inference mode."""

    def set_classifier(self, weights: NDArray[np.float32], biases: NDArray[np.float32]) -> None:
        """Replace the classifier's weights [F, C] and biases [C]."""

    def save(self, path: Path) -> None:
        """Write a checkpoint: weights, optimizer state and moving average."""

    def load(self, path: Path) -> None:
        """Read a checkpoint that `save` wrote for the same configuration."""

    def round_to_half(self) -> None:
        """Round the weights to fp16, which `export` then stores; the artifact computes in fp32.

        Raises:
            ConfigError: The framework's artifact has no such form.
        """

    def export(self, directory: Path) -> None:
        """Write the artifact of a bundle into `directory`."""


class DevicesLike(Protocol):
    """How a framework trains on several devices."""

    def gpus(self) -> int:
        """The number of usable GPUs."""

    def launch(self, devices: int) -> int | None:
        """Run the command on several devices.

        Returns:
            None if this process continues; the exit code if other processes have run the command.
        """

    def rank_and_world_size(self) -> tuple[int, int]:
        """The rank of this process and the number of processes."""

    def shut_down(self) -> bool:
        """Leave the process group; True if this process has nothing left to do."""


class Backend(Protocol):
    """A framework: its network with its optimizer, its weights, its devices."""

    # Read-only, because mypy takes the names that a module imports for constants.
    @property
    def PACKAGES(self) -> tuple[str, ...]:  # noqa: N802 - a constant of a module
        """The packages whose versions the manifest records."""

    @property
    def ARTIFACT(self) -> dict[str, Any]:  # noqa: N802 - a constant of a module
        """The source artifact, as in the manifest."""

    @property
    def devices(self) -> DevicesLike:
        """Training on several devices."""

    @property
    def weights(self) -> WeightsLike:
        """Reading published weights, files and bundles."""

    def Trainer(  # noqa: N802 - a class of a module
        self,
        config: TrainConfig,
        classes: int,
        mean: NDArray[np.float32],
        std: NDArray[np.float32],
        initial: Initial = ...,
    ) -> TrainerLike:
        """A new network; mean and std [3] of the training pixels, in units of 0 to 255."""

    def set_threads(self, threads: int) -> None:
        """Set the number of CPU threads of the framework; 0: all cores."""


def source_artifact(kind: str, path: str) -> dict[str, Any]:
    """The manifest's entry for the artifact that `TrainerLike.export` writes, in fp32."""
    return {
        "id": f"{kind}-fp32",
        "format": kind,
        "path": path,
        "precision": "fp32",
        "source": True,
        "derivation": None,
        "speeds": [],
    }
