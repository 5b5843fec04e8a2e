"""PyTorch modules from pixels to logits around an imported network; imported by its child only."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundle.importing.child import TINY
from bundle.normalisation import Normalisation

if TYPE_CHECKING:
    from torch import Tensor, nn


def classifier_of(network: nn.Module, example: Tensor) -> tuple[nn.Linear, nn.Module] | None:
    """The last linear layer, and the module whose output it gets the spatial mean of, or None.

    Found by the numbers: the layer's output is the network's, and its input is a mean.
    """
    import torch  # noqa: PLC0415

    maps: list[tuple[nn.Module, Tensor]] = []
    linears: list[tuple[nn.Linear, Tensor, Tensor]] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(module, torch.nn.Linear):
            linears.append((module, inputs[0], output))
        elif isinstance(output, torch.Tensor) and output.ndim == 4:
            maps.append((module, output))

    hooks = [module.register_forward_hook(keep) for module in network.modules()]
    with torch.no_grad():
        logits = network(example)
    for hook in hooks:
        hook.remove()
    for linear, given, output in reversed(linears):
        if given.ndim != 2 or output.shape != logits.shape or not torch.equal(output, logits):
            continue
        for module, features in reversed(maps):
            same = features.shape[1] == given.shape[1] and features.shape[2] > 1
            if same and torch.allclose(features.mean((2, 3)), given, rtol=1e-4, atol=1e-5):
                return linear, module
    return None


def with_features(network: nn.Module, source: nn.Module) -> nn.Module:
    """The network with two outputs: the logits, and the output of its module `source`."""
    import torch  # noqa: PLC0415

    class WithFeatures(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network
            self.kept: list[Tensor] = []
            source.register_forward_hook(self._keep)

        def _keep(self, _module: Any, _inputs: Any, output: Tensor) -> None:
            self.kept.append(output)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            self.kept.clear()
            return self.network(x), self.kept[-1]

    return WithFeatures()


def save_served(
    model: Any,
    path: Path,
    how: Normalisation,
    *,
    layout: str,
    probabilities: bool,
    pick: str | int | None,
    batch: int,
    linear: nn.Linear | None,
) -> None:
    """Write TorchScript from uint8 pixels to logits.

    Args:
        model: Traced or scripted; with `linear` its outputs are logits and features.
        path: The file to write.
        how: The normalisation.
        layout: NCHW or NHWC, of the model's input.
        probabilities: Whether the outputs are.
        pick: The output of a tuple or a dictionary that is taken; None: there is one.
        batch: The only number of images that the model takes; 0: any.
        linear: The last layer, for heat maps.
    """
    import torch  # noqa: PLC0415

    class Served(torch.nn.Module):
        if TYPE_CHECKING:  # TorchScript would evaluate these annotations
            mean: Tensor
            std: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.register_buffer("mean", torch.tensor(how.mean).view(1, 3, 1, 1))
            self.register_buffer("std", torch.tensor(how.std).view(1, 3, 1, 1))
            self.flip = how.order == "BGR"
            self.last = layout == "NHWC"
            self.probabilities = probabilities
            self.batch = batch
            self.tiny = float(TINY)

        def normalised(self, pixels: torch.Tensor) -> torch.Tensor:
            x = pixels.permute(0, 3, 1, 2).to(torch.float32)
            if self.flip:
                x = x.flip(1)
            x = (x - self.mean) / self.std
            if self.last:
                x = x.permute(0, 2, 3, 1)
            return x

        def logits(self, output: torch.Tensor) -> torch.Tensor:
            output = output.to(torch.float32)
            if self.probabilities:
                output = output.clamp(min=self.tiny).log()
            return output

    class Plain(Served):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            x = self.normalised(pixels)
            if self.batch == 0:
                return self.logits(self.model(x))
            # One image at a time, repeated to the number that the model was made for.
            rows: list[torch.Tensor] = []
            for i in range(x.size(0)):
                rows.append(  # noqa: PERF401 - TorchScript has no comprehension with a range
                    self.model(x[i : i + 1].expand(self.batch, -1, -1, -1))[:1]
                )
            return self.logits(torch.cat(rows))

    class WithHeatmap(Served):
        if TYPE_CHECKING:
            rows: Tensor

        def __init__(self) -> None:
            super().__init__()
            assert linear is not None  # noqa: S101 - for mypy
            self.register_buffer("rows", linear.weight.detach().clone())

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            logits, _ = self.model(self.normalised(pixels))
            return self.logits(logits)

        @torch.jit.export
        def explain(
            self, pixels: torch.Tensor, class_index: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            logits, features = self.model(self.normalised(pixels))
            rows = self.rows[class_index]
            return self.logits(logits), (features * rows[:, :, None, None]).sum(1)

    class Picked(torch.nn.Module):
        __constants__ = ("pick",)  # TorchScript indexes a tuple by constants only

        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model
            self.pick = pick

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = self.model(x)[self.pick]
            return output

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        if pick is not None:
            model = torch.jit.script(Picked(model))
        served = (Plain() if linear is None else WithHeatmap()).eval()
        torch.jit.script(served).save(str(path))  # type: ignore[no-untyped-call]
