"""Input normalisation, the first operation of a network: each family of weights has its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Normalisation:
    """(value - mean) / std of values of 0 to 255; channels, mean and std are in `order`."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    order: Literal["RGB", "BGR"] = "RGB"

    @property
    def fill(self) -> NDArray[np.uint8]:
        """uint8 [3], RGB: the colour that becomes zero, up to rounding."""
        mean = self.mean if self.order == "RGB" else self.mean[::-1]
        return np.round(mean).astype(np.uint8)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, under their names in the configuration of a manifest."""
        return {"mean": list(self.mean), "std": list(self.std), "channel_order": self.order}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Normalisation:
        """The inverse of `as_dict`; older bundles name no order, which means RGB."""
        return cls(tuple(values["mean"]), tuple(values["std"]), values.get("channel_order", "RGB"))


# torchvision.transforms.Normalize of its ImageNet weights, which take values of 0 to 1.
TORCHVISION = Normalisation(
    tuple(255 * v for v in (0.485, 0.456, 0.406)), tuple(255 * v for v in (0.229, 0.224, 0.225))
)
# keras.applications.imagenet_utils.preprocess_input, modes "caffe" and "tf".
CAFFE = Normalisation((103.939, 116.779, 123.68), (1.0, 1.0, 1.0), "BGR")
MINUS_ONE_TO_ONE = Normalisation((127.5, 127.5, 127.5), (127.5, 127.5, 127.5))
