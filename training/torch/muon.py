"""Muon for convolutions in PyTorch: momentum orthogonalised by Newton-Schulz iteration.

Its twin is `training/keras/muon.py`.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from training.schedule import NEWTON_SCHULZ


class ConvMuon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) for convolutions, each kept at the norm sqrt(filters).

    torch.optim.Muon accepts matrices only. `lr` is the length of a step relative to the weights.
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
    """Approximate the nearest semi-orthogonal matrix by Newton-Schulz iteration."""
    a, b, c = NEWTON_SCHULZ
    x: Tensor = matrix.T if len(matrix) > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if len(matrix) > matrix.shape[1] else x
