"""Weights of a PyTorch bundle in the networks of keras.applications: ResNet v1 of He et al. 2016.

The shipped ImageNet bundle is PyTorch's; this way it serves training in Keras too.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

State = dict[str, NDArray[Any]]


def read_torchscript(path: Path) -> State:
    """The tensors of a TorchScript network of `training/torch`, in fp32."""
    import torch  # noqa: PLC0415 - it takes seconds to import

    with warnings.catch_warnings():
        # TorchScript is deprecated upstream (torch 2.9) but is the format of a bundle.
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.load` is deprecated")
        network = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    return {name: value.float().numpy() for name, value in network.state_dict().items()}


def assign(backbone: keras.Model, classifier: keras.layers.Dense, state: State) -> None:
    """Give a network of keras.applications the weights of its twin in PyTorch.

    Raises:
        KeyError, ValueError: They are those of another network.
    """
    for layer in backbone.layers:
        if not layer.weights:
            continue
        name = torch_name(layer.name)
        if isinstance(layer, keras.layers.Conv2D):
            kernel = state[f"{name}.weight"].transpose(2, 3, 1, 0)
            # PyTorch's convolutions have no bias, because the normalisation after them has one.
            layer.set_weights([kernel, np.zeros(kernel.shape[-1], np.float32)])
        else:
            parts = ("weight", "bias", "running_mean", "running_var")
            layer.set_weights([state[f"{name}.{part}"] for part in parts])
    classifier.set_weights([state["classifier.weight"].T, state["classifier.bias"]])


def torch_name(layer: str) -> str:
    """The name in PyTorch of `conv3_block1_2_bn`: `layer2.0.bn2`; block 0 is the shortcut."""
    found = re.fullmatch(r"conv(\d)(?:_block(\d+)_(\d))?_(conv|bn)", layer)
    if found is None:
        raise KeyError(layer)
    stage, block, number, kind = found.groups()
    if block is None:
        return f"{kind}1"
    prefix = f"layer{int(stage) - 1}.{int(block) - 1}"
    if number == "0":
        return f"{prefix}.downsample.{0 if kind == 'conv' else 1}"
    return f"{prefix}.{kind}{number}"
