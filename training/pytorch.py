"""The PyTorch side of training: the CIFAR ResNets of He et al. 2016 (section 4.2) as one scriptable module.

Its twin is `training/tensorflow.py`: the same names in the same order, with the same types.
Reference: K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tensorboardX import (
    SummaryWriter,
)  # torch.utils.tensorboard would import tensorflow where it is installed
from torch import Tensor, nn
from torch.nn import functional as F

from training.config import TrainConfig

PACKAGES = ("torch",)  # whose versions the manifest records
ARTIFACT = {
    "id": "torchscript-fp32",
    "format": "torchscript",
    "path": "model.pt",
    "precision": "fp32",
    "source": True,
}

NEWTON_SCHULZ = (
    3.4445,
    -4.7750,
    2.0315,
)  # Jordan et al. 2024: the quintic that grows small singular values fastest


class Block(nn.Module):
    """Two 3x3 convolutions; with a parameter-free identity shortcut (option A), or plain."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, residual: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.stride = stride
        self.residual = residual
        self.more_channels = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        if self.residual:
            if self.stride > 1:
                x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more_channels))
            out = out + x
        return F.relu(out)


class CifarResNet(nn.Module):
    """ResNet-(6n+2) for small images: pixels in, logits out, and the class activation map as second method."""

    def __init__(
        self, depth: int, classes: int, mean: NDArray[np.float32], std: NDArray[np.float32], residual: bool
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(1 / std).view(1, 3, 1, 1))
        self.conv = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        blocks: list[nn.Module] = []
        channels = 16
        for width in (16, 32, 64):
            for _ in range((depth - 2) // 6):
                blocks.append(Block(channels, width, 1 if width == channels else 2, residual))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(channels, classes)

    def features(self, pixels: Tensor) -> Tensor:
        """The last feature map, float32 [N, 64, H/4, W/4], of uint8 pixels [N, H, W, 3]."""
        # The permuted view of NHWC pixels is what PyTorch calls channels_last: the fast layout, without a copy.
        x = (pixels.permute(0, 3, 1, 2).to(torch.float32) - self.mean) * self.scale
        return self.blocks(F.relu(self.norm(self.conv(x))))

    def forward(self, pixels: Tensor) -> Tensor:
        """float32 logits [N, C] of uint8 pixels [N, H, W, 3]."""
        return self.classifier(self.features(pixels).mean((2, 3)))

    @torch.jit.export
    def explain(self, pixels: Tensor, class_index: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [N, C] and class activation maps float32 [N, h, w] of int64 classes [N] (Zhou et al. 2016)."""
        features = self.features(pixels)
        weights = self.classifier.weight[class_index]  # [N, 64]
        heat_map = (features * weights[:, :, None, None]).sum(1)
        return self.classifier(features.mean((2, 3))), heat_map


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
        self, config: TrainConfig, classes: int, mean: NDArray[np.float32], std: NDArray[np.float32]
    ) -> None:
        """Args: mean, std: float32 [3], of the training pixels, in units of 0 to 255."""
        torch.manual_seed(config.seed)
        torch.set_num_threads(config.threads or os.cpu_count() or 1)
        self.config = config
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = CifarResNet(config.depth, classes, mean, std, config.residual)
        for module in self.model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.model = self.model.to(self.device, memory_format=torch.channels_last)
        self.parameters = sum(p.numel() for p in self.model.parameters())
        kernels = [p for p in self.model.parameters() if p.ndim == 4 and config.optimizer == "muon"]
        others = [p for p in self.model.parameters() if p.ndim != 4 or config.optimizer != "muon"]
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

    def train_step(
        self, pixels: NDArray[np.uint8], labels: NDArray[np.int64], factor: float
    ) -> tuple[float, int]:
        """One step on uint8 [B, H, W, 3] and int64 [B] at `factor` of the peak rates: mean loss, number correct."""
        self.model.train()
        target = torch.from_numpy(labels).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            logits = self.model(torch.from_numpy(pixels).to(self.device)).float()
        loss = F.cross_entropy(logits, target, label_smoothing=self.config.label_smoothing)
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        for optimizer, peak in self.optimizers:
            optimizer.param_groups[0]["lr"] = peak * factor
            optimizer.step()
        return loss.item(), int((logits.argmax(1) == target).sum())

    @torch.inference_mode()
    def predict(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """float32 logits [N, C] of uint8 pixels [N, H, W, 3], as served: batch statistics frozen."""
        self.model.eval()
        return self.model(torch.from_numpy(pixels).to(self.device)).cpu().numpy()

    def save(self, path: Path) -> None:
        """Write weights and optimizer state to `path`."""
        torch.save([self.model.state_dict(), *(o.state_dict() for o, _ in self.optimizers)], path)

    def load(self, path: Path) -> None:
        """Read what `save` wrote for the same configuration."""
        model, *optimizers = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(model)
        for (optimizer, _), state in zip(self.optimizers, optimizers, strict=True):
            optimizer.load_state_dict(state)

    def export(self, directory: Path) -> None:
        """Write the artifact `model.pt` (TorchScript) into `directory`, on the CPU and in fp32."""
        torch.jit.script(self.model.eval().cpu()).save(str(directory / ARTIFACT["path"]))
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
