"""Training in PyTorch: a network of `training/torch/networks.py` with its optimizer.

Its twin is `training/keras/trainer.py`.
"""

from __future__ import annotations

import copy
import os
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from bundle.normalisation import Normalisation
from training.backend import source_artifact
from training.config import TrainConfig
from training.schedule import average_decay
from training.torch import devices
from training.torch.muon import ConvMuon
from training.torch.networks import (
    build_network,
    count_parameters,
    feature_map,
    stored_in_half,
)
from training.torch.weights import load_weights
from training.weights.initial import Initial

PACKAGES = ("torch", "torchvision")  # whose versions the manifest records
ARTIFACT = source_artifact("torchscript", "model.pt")


def set_threads(threads: int) -> None:
    """Set the number of CPU threads; 0: the cores, divided between the processes."""
    _, processes = devices.rank_and_world_size()
    torch.set_num_threads(threads or max(1, (os.cpu_count() or 1) // processes))


class Trainer:
    """A network with its optimizer, see `training.backend.TrainerLike`."""

    def __init__(
        self,
        config: TrainConfig,
        classes: int,
        mean: NDArray[np.float32],
        std: NDArray[np.float32],
        initial: Initial = Initial(),  # noqa: B008 - it is frozen
    ) -> None:
        """A new network.

        Args:
            mean, std: float32 [3] of the training pixels, in units of 0 to 255.

        Raises:
            WeightsError: `initial` holds the weights of another network.
        """
        torch.manual_seed(config.seed)
        set_threads(config.threads)
        self.config = config
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.initial = initial.record
        self.normalisation = initial.normalisation or Normalisation(
            tuple(map(float, mean)), tuple(map(float, std))
        )
        model = build_network(config, classes, self.normalisation)
        load_weights(model, initial)
        self.parameters = count_parameters(model)
        self.feature_map = feature_map(model, config.image_size)
        # `trained` computes the gradients; `model` is evaluated and exported. They differ where the
        # moving average is evaluated, and where batch normalisation is synchronised.
        self.trained: nn.Module = model.to(self.device).to(memory_format=torch.channels_last)
        self.model: nn.Module = self.trained
        self.average: AveragedModel | None = None
        if config.ema_decay:
            self.average = AveragedModel(
                self.trained, multi_avg_fn=self._move_average, use_buffers=True
            )
            self.model = self.average.module
        self.rank, self.world_size = devices.rank_and_world_size()
        if self.world_size > 1 and self.device.type == "cuda":
            # Statistics of the whole batch. TorchScript does not support this layer, so the
            # original is exported.
            copied = copy.deepcopy(self.trained)
            self.trained = nn.SyncBatchNorm.convert_sync_batchnorm(copied)  # type: ignore[no-untyped-call]
        self.half = False
        self.parallel = self._parallel()
        kernels = [
            p for p in self.trained.parameters() if p.ndim == 4 and config.optimizer == "muon"
        ]
        others = [p for p in self.trained.parameters() if p.ndim != 4 or config.optimizer != "muon"]
        groups: list[dict[str, Any]] = [{"params": others}]
        if not config.decay_all:
            groups = [
                {"params": [p for p in others if p.ndim > 1]},
                {"params": [p for p in others if p.ndim == 1], "weight_decay": 0.0},
            ]
        self.optimizers: list[tuple[torch.optim.Optimizer, float]] = [
            (
                torch.optim.SGD(
                    groups,
                    config.learning_rate,
                    momentum=config.momentum,
                    nesterov=True,
                    weight_decay=config.weight_decay,
                ),
                config.learning_rate,
            )
        ]
        if kernels:
            muon = ConvMuon(kernels, config.muon_learning_rate, config.momentum)
            self.optimizers.append((muon, config.muon_learning_rate))

    def _parallel(self) -> nn.Module:
        """`trained`, whose gradients DDP averages; it sends rank 0's weights to all ranks."""
        return DistributedDataParallel(self.trained) if self.world_size > 1 else self.trained

    def train_step(
        self, pixels: NDArray[np.uint8], targets: NDArray[np.float32], factor: float
    ) -> tuple[float, int]:
        """One step on pixels [B, H, W, 3] and soft targets [B, C] at `factor` times the peak rate.

        Returns:
            The mean loss and the number of correct predictions, over all processes.
        """
        self.trained.train(self.config.batch_statistics)  # there is no dropout
        target = torch.from_numpy(targets).to(self.device)
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"
        ):
            logits = self.parallel(torch.from_numpy(pixels).to(self.device)).float()
        loss = F.cross_entropy(logits, target)
        self.trained.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if self.config.clip_norm:
            nn.utils.clip_grad_norm_(self.trained.parameters(), self.config.clip_norm)
        for optimizer, peak in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = peak * factor
            optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.trained)
        sums = torch.stack((loss.detach(), (logits.argmax(1) == target.argmax(1)).sum()))
        if self.world_size > 1:
            distributed.all_reduce(sums)
        total, correct = sums.tolist()
        return total / self.world_size, int(correct)

    def _move_average(
        self,
        averages: tuple[Tensor, ...] | list[Tensor],
        values: tuple[Tensor, ...] | list[Tensor],
        updates: Tensor | int,
    ) -> None:
        """Update the moving averages, those of the batch statistics included."""
        weight = 1 - average_decay(self.config, int(updates))
        for average, value in zip(averages, values, strict=True):
            if average.is_floating_point():
                average.lerp_(value, weight)
            else:  # the number of batches seen
                average.copy_(value)

    def broadcast_metrics(self, metrics: dict[str, float]) -> dict[str, float]:
        """Broadcast rank 0's metrics so that every rank takes the same decisions."""
        if self.world_size == 1:
            return metrics
        values = torch.tensor(list(metrics.values()), dtype=torch.float64, device=self.device)
        distributed.broadcast(values, 0)
        return dict(zip(metrics, values.tolist(), strict=True))

    @torch.inference_mode()
    def predict(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits [N, C] of pixels [N, H, W, 3], in inference mode and fp32."""
        self._sync_eval_weights()
        self.model.eval()
        logits: Tensor = self.model(torch.from_numpy(pixels).to(self.device))
        return logits.cpu().numpy()

    @torch.inference_mode()
    def features(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `training.backend.TrainerLike`."""
        self._sync_eval_weights()
        self.model.eval()
        features: Tensor = self.model.features(torch.from_numpy(pixels).to(self.device))  # type: ignore[operator]
        return features.mean((2, 3)).cpu().numpy()

    @torch.no_grad()
    def set_classifier(self, weights: NDArray[np.float32], biases: NDArray[np.float32]) -> None:
        """See `training.backend.TrainerLike`."""
        for network in (self.trained, self.model):
            classifier: nn.Linear = network.classifier  # type: ignore[assignment]
            classifier.weight.copy_(torch.from_numpy(weights.T))
            classifier.bias.copy_(torch.from_numpy(biases))
        self.parallel = self._parallel()

    def _sync_eval_weights(self) -> None:
        """Copy the weights of `trained` to `model`, where it is a copy and no average."""
        if self.model is not self.trained and self.average is None:
            self.model.load_state_dict(self.trained.state_dict())

    def save(self, path: Path) -> None:
        """Write a checkpoint: weights, optimizer state and moving average."""
        torch.save([part.state_dict() for part in self._parts()], path)

    def load(self, path: Path) -> None:
        """Read a checkpoint that `save` wrote for the same configuration."""
        states = torch.load(path, map_location=self.device, weights_only=True)
        for part, state in zip(self._parts(), states, strict=True):
            part.load_state_dict(state)

    def _parts(self) -> list[Any]:
        parts = [self.trained, *(optimizer for optimizer, _ in self.optimizers)]
        return parts if self.average is None else [*parts, self.average]

    def round_to_half(self) -> None:
        """See `training.backend.TrainerLike`."""
        self._sync_eval_weights()
        for tensor in stored_in_half(self.model):
            tensor.data.copy_(tensor.data.half())
        self.half = True

    def export(self, directory: Path) -> None:
        """Write the artifact `model.pt` (TorchScript, fp32, on the CPU) into `directory`."""
        self._sync_eval_weights()
        model = self.model.eval().cpu()
        if self.half:
            model = copy.deepcopy(model)
            for tensor in stored_in_half(model):
                tensor.data = tensor.data.half()
        with warnings.catch_warnings():
            # TorchScript is deprecated upstream (torch 2.9) but is the format of a bundle.
            warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is deprecated")
            script = torch.jit.script(model)
        path = directory / ARTIFACT["path"]
        script.save(str(path))  # type: ignore[no-untyped-call]
        _drop_sources(path)
        self.model.to(self.device)


def _drop_sources(path: Path) -> None:
    """Remove the source lines from a TorchScript file: they name the folders of this machine."""
    smaller = path.with_suffix(".smaller")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(smaller, "w") as new:
        for name in old.namelist():
            if not name.endswith(".debug_pkl"):
                new.writestr(name, old.read(name))
    smaller.replace(path)
