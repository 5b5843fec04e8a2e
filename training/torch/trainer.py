"""The PyTorch side of training: a network of `training/torch/networks.py` with its optimizer.

Its twin is `training/keras/trainer.py`: the same names in the same order, with the same types.
"""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensorboardX import (
    SummaryWriter,
)  # torch.utils.tensorboard would import tensorflow where it is installed
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from training.config import TrainConfig
from training.schedule import average_decay
from training.torch import devices
from training.torch.networks import build_network, count_parameters, feature_map
from training.torch.weights import put
from training.weights.initial import Initial
from training.weights.normalisation import Normalisation

PACKAGES = ("torch", "torchvision")  # whose versions the manifest records
ARTIFACT = {
    "id": "torchscript-fp32",
    "format": "torchscript",
    "path": "model.pt",
    "precision": "fp32",
    "source": True,
    "derivation": None,
    "speeds": [],
}

NEWTON_SCHULZ = (
    3.4445,
    -4.7750,
    2.0315,
)  # Jordan et al. 2024: the quintic that grows small singular values fastest


def set_threads(threads: int) -> None:
    """Compute with so many threads; 0: as many as there are cores, shared between the processes."""
    _, processes = devices.share()
    torch.set_num_threads(threads or max(1, (os.cpu_count() or 1) // processes))


class ConvMuon(torch.optim.Optimizer):
    """Momentum orthogonalised for convolution kernels, each kept at the norm sqrt(filters) (Jordan et al. 2024).

    torch.optim.Muon takes matrices only. `lr` is the length of a step relative to the weights.
    """

    def __init__(self, kernels: Iterable[nn.Parameter], lr: float, momentum: float) -> None:
        super().__init__(kernels, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for kernel in group["params"]:
                if kernel.grad is None:  # frozen
                    continue
                momentum = self.state[kernel].setdefault("momentum", torch.zeros_like(kernel))
                momentum.mul_(group["momentum"]).add_(kernel.grad)
                update = kernel.grad.add(momentum, alpha=group["momentum"])
                kernel.mul_(len(kernel) ** 0.5 / kernel.norm())
                kernel.add_(orthogonalise(update.flatten(1)).view_as(kernel), alpha=-group["lr"])


def orthogonalise(matrix: Tensor, steps: int = 4) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly, by Newton-Schulz iteration."""
    a, b, c = NEWTON_SCHULZ
    x = matrix.T if len(matrix) > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if len(matrix) > matrix.shape[1] else x


class Trainer:
    """A network with its optimizer: what the common loop in `training/loop.py` drives."""

    def __init__(
        self,
        config: TrainConfig,
        classes: int,
        mean: NDArray[np.float32],
        std: NDArray[np.float32],
        initial: Initial = Initial(),  # noqa: B008 - it is frozen
    ) -> None:
        """Args: mean, std: float32 [3], of the training pixels, in units of 0 to 255.

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
        put(model, initial)
        self.model = self.trained = model.to(self.device, memory_format=torch.channels_last)
        self.average: AveragedModel | None = None
        if (
            config.ema_decay
        ):  # `trained` then computes the gradients, and what is evaluated is the average
            self.average = AveragedModel(
                self.trained, multi_avg_fn=self._move_average, use_buffers=True
            )
            self.model = self.average.module
        self.share = devices.share()
        if self.share[1] > 1 and self.device.type == "cuda":
            # Statistics of the whole batch. TorchScript does not know this layer, so what is exported is the original.
            self.trained = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(self.trained))
        self.parameters = count_parameters(self.model)
        self.feature_map = feature_map(self.model, config.image_size)
        self.frozen = False
        self.parallel = self._parallel()
        kernels = [
            p for p in self.trained.parameters() if p.ndim == 4 and config.optimizer == "muon"
        ]
        others = [p for p in self.trained.parameters() if p.ndim != 4 or config.optimizer != "muon"]
        self.optimizers: list[tuple[torch.optim.Optimizer, float]] = [
            (
                torch.optim.SGD(
                    others,
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

    def freeze(self, frozen: bool) -> None:
        """Whether only the classifier trains; the backbone then runs as it is served, with its statistics frozen."""
        if frozen != self.frozen:
            self.frozen = frozen
            for name, parameter in self.trained.named_parameters():
                parameter.requires_grad_(not frozen or name.startswith("classifier."))
            self.parallel = self._parallel()

    def _parallel(self) -> nn.Module:
        """What trains, with the gradients of what is trainable now averaged over the processes."""
        return DistributedDataParallel(self.trained) if self.share[1] > 1 else self.trained

    def train_step(
        self, pixels: NDArray[np.uint8], targets: NDArray[np.float32], factor: float
    ) -> tuple[float, int]:
        """One step on uint8 [B, H, W, 3] and the shares of the classes float32 [B, C], at `factor` of the peak rates.

        Returns:
            The mean loss, and how many answers are the class with the largest share, of all processes together.
        """
        self.trained.train(not self.frozen)
        target = torch.from_numpy(targets).to(self.device)
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"
        ):
            logits = self.parallel(torch.from_numpy(pixels).to(self.device)).float()
        loss = F.cross_entropy(logits, target)
        self.trained.zero_grad(set_to_none=True)
        loss.backward()
        for optimizer, peak in self.optimizers:
            optimizer.param_groups[0]["lr"] = peak * factor
            optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.trained)
        figures = torch.stack((loss.detach(), (logits.argmax(1) == target.argmax(1)).sum()))
        if self.share[1] > 1:
            distributed.all_reduce(figures)
        total, correct = figures.tolist()
        return total / self.share[1], int(correct)

    def _move_average(
        self, averages: Sequence[Tensor], values: Sequence[Tensor], updates: Tensor
    ) -> None:
        """Move the averages, those of the batch statistics among them, towards the values that training has reached."""
        weight = 1 - average_decay(self.config, int(updates))
        for average, value in zip(averages, values, strict=True):
            if average.is_floating_point():
                average.lerp_(value, weight)
            else:  # the number of batches seen
                average.copy_(value)

    def agree(self, figures: dict[str, float]) -> dict[str, float]:
        """The figures of the first process: what is decided by them is then decided in all of them alike."""
        if self.share[1] == 1:
            return figures
        values = torch.tensor(list(figures.values()), dtype=torch.float64, device=self.device)
        distributed.broadcast(values, 0)
        return dict(zip(figures, values.tolist(), strict=True))

    @torch.inference_mode()
    def predict(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """float32 logits [N, C] of uint8 pixels [N, H, W, 3], as served: batch statistics frozen."""
        self._sync_eval_weights()
        self.model.eval()
        return self.model(torch.from_numpy(pixels).to(self.device)).cpu().numpy()

    def _sync_eval_weights(self) -> None:
        """Give `model` the weights that training has reached, where it neither trains nor averages."""
        if self.model is not self.trained and self.average is None:
            self.model.load_state_dict(self.trained.state_dict())

    def save(self, path: Path) -> None:
        """Write weights, optimizer state and the average to `path`."""
        torch.save([part.state_dict() for part in self._parts()], path)

    def load(self, path: Path) -> None:
        """Read what `save` wrote for the same configuration."""
        states = torch.load(path, map_location=self.device, weights_only=True)
        for part, state in zip(self._parts(), states, strict=True):
            part.load_state_dict(state)

    def _parts(self) -> list[Any]:
        parts = [self.trained, *(optimizer for optimizer, _ in self.optimizers)]
        return parts if self.average is None else [*parts, self.average]

    def export(self, directory: Path) -> None:
        """Write the artifact `model.pt` (TorchScript) into `directory`, on the CPU and in fp32."""
        self._sync_eval_weights()
        with warnings.catch_warnings():
            # TorchScript is deprecated upstream (torch 2.9) but is the format of a bundle.
            warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is deprecated")
            script = torch.jit.script(self.model.eval().cpu())
        script.save(str(directory / ARTIFACT["path"]))
        self.model.to(self.device)


class EventWriter:
    """TensorBoard event files of a run."""

    def __init__(self, directory: Path, first_epoch: int) -> None:
        """Scalars from `first_epoch` on, left by a run that was interrupted, are dropped by TensorBoard."""
        self.writer = SummaryWriter(str(directory), purge_step=first_epoch + 1)

    def write(self, epoch: int, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, epoch)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()
