"""Muon for convolutions in Keras: momentum orthogonalised by Newton-Schulz iteration.

Its twin is `training/torch/muon.py`.
"""

from __future__ import annotations

from typing import Any

import keras

from training.schedule import NEWTON_SCHULZ


class ConvMuon(keras.optimizers.SGD):  # type: ignore[misc]
    """SGD, and Muon (Jordan et al. 2024) for convolutions, each kept at the norm sqrt(filters).

    keras.optimizers.Muon accepts matrices only. `kernel_rate` is the length of a step relative to
    the weights, at the peak of the schedule. The decay is L2, added to the gradient as in
    torch.optim.SGD.
    """

    def __init__(
        self,
        peak_rate: float,
        kernel_rate: float | None,
        momentum: float,
        decay: float,
        decay_all: bool,
    ) -> None:
        super().__init__(peak_rate, momentum, nesterov=True)
        self.kernel_ratio = None if kernel_rate is None else kernel_rate / peak_rate
        self.decay, self.decay_all = decay, decay_all

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        if self.kernel_ratio is None or len(variable.shape) != 4:
            # Keras scales the gradient by the rate before it enters the momentum, PyTorch after:
            # with a rate that changes slowly the two agree.
            if self.decay_all or len(variable.shape) > 1:
                gradient = gradient + self.decay * variable
            super().update_step(gradient, variable, learning_rate)
            return
        momentum = self.momentums[self._get_variable_index(variable)]
        momentum.assign(self.momentum * momentum + gradient)
        update = gradient + self.momentum * momentum
        filters = variable.shape[-1]
        update = keras.ops.reshape(
            orthogonalise(keras.ops.reshape(update, (-1, filters))), variable.shape
        )
        kernel = variable * (filters**0.5 / keras.ops.norm(keras.ops.reshape(variable, (-1,))))
        variable.assign(kernel - learning_rate * self.kernel_ratio * update)


def orthogonalise(matrix: Any, steps: int = 4) -> Any:
    """Approximate the nearest semi-orthogonal matrix by Newton-Schulz iteration."""
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = keras.ops.transpose(matrix) if tall else matrix
    x = x / (keras.ops.norm(x) + 1e-7)
    for _ in range(steps):
        gram = x @ keras.ops.transpose(x)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return keras.ops.transpose(x) if tall else x
