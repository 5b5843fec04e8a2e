"""The networks in PyTorch: the CIFAR ResNets of He et al. 2016, section 4.2, and those of table 1.

Its twin is `training/keras/networks.py`. Reference: K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual
Learning for Image Recognition", CVPR 2016.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from bundle.normalisation import Normalisation
from training.config import TrainConfig


def build_network(config: TrainConfig, classes: int, normalisation: Normalisation) -> ResNet:
    """The network of the configuration, randomly initialised: uint8 pixels [N, H, W, 3] to logits.

    `classifier` is the last linear layer; everything else is the backbone.
    """
    if config.family == "cifar":
        network = cifar_resnet(config.depth, classes, normalisation, config.residual, config.width)
    else:
        network = imagenet_resnet(config.arch, classes, normalisation, config.small_stem)
        if config.variant == "v1":
            for stage in (network.layer2, network.layer3, network.layer4):
                stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def cifar_resnet(
    depth: int, classes: int, normalisation: Normalisation, residual: bool, width: int = 1
) -> ResNet:
    """ResNet-(6n+2) for small images: the feature map is [N, 64 x width, H/4, W/4]."""
    return _CifarResNet(depth, classes, normalisation, residual, width)


def imagenet_resnet(
    arch: str, classes: int, normalisation: Normalisation, small_stem: bool
) -> _ImageNetResNet:
    """ResNet-18 to ResNet-152: the feature map is [N, 512 or 2048, H/32, W/32].

    `small_stem` replaces the 7x7 convolution and the pooling, which leave too little of a small
    image, by a 3x3 convolution of stride 1; the feature map is then [N, 512, H/8, W/8].
    """
    body = torchvision.models.get_model(arch, weights=None, num_classes=classes)
    if small_stem:
        body.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        body.maxpool = nn.Identity()
    return _ImageNetResNet(body, normalisation)


def count_parameters(network: nn.Module) -> int:
    """The number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def stored_in_half(network: nn.Module) -> list[Tensor]:
    """The kernels of the convolutions and of the linear layer: nearly all of the memory.

    Not the statistics of batch normalisation: a variance may be larger than fp16 can hold.
    """
    return [parameter for parameter in network.parameters() if parameter.ndim > 1]


@torch.no_grad()
def feature_map(network: ResNet, image_size: int) -> tuple[int, int, int]:
    """Height, width and channels of the last feature map for images of `image_size` squared."""
    device = next(network.parameters()).device
    pixels = torch.zeros((1, image_size, image_size, 3), dtype=torch.uint8, device=device)
    _, channels, height, width = network.eval().features(pixels).shape
    return height, width, channels


class ResNet(nn.Module):
    """The normalisation before the first layer and the head after the last feature map.

    A subclass adds `features` and the linear layer `classifier`.
    """

    if TYPE_CHECKING:  # TorchScript would evaluate these annotations
        mean: Tensor
        scale: Tensor
        classifier: nn.Linear

        def features(self, pixels: Tensor) -> Tensor: ...

    def __init__(self, normalisation: Normalisation) -> None:
        super().__init__()
        mean, std = (np.array(v, np.float32) for v in (normalisation.mean, normalisation.std))
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(1 / std).view(1, 3, 1, 1))

    def normalised(self, pixels: Tensor) -> Tensor:
        """float32 [N, 3, H, W] of uint8 pixels [N, H, W, 3]."""
        # The permuted view of NHWC pixels is PyTorch's channels_last: the fast layout, without a
        # copy.
        return (pixels.permute(0, 3, 1, 2).to(torch.float32) - self.mean) * self.scale

    def forward(self, pixels: Tensor) -> Tensor:
        """float32 logits [N, C] of uint8 pixels [N, H, W, 3]."""
        logits: Tensor = self.classifier(self.features(pixels).mean((2, 3)))
        return logits

    @torch.jit.export
    def explain(self, pixels: Tensor, class_index: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [N, C] and the class activation maps [N, h, w] of int64 classes [N].

        B. Zhou et al. 2016, "Learning Deep Features for Discriminative Localization".
        """
        features = self.features(pixels)
        weights = self.classifier.weight[class_index]  # [N, channels]
        heat_map = (features * weights[:, :, None, None]).sum(1)
        return self.classifier(features.mean((2, 3))), heat_map


class _Block(nn.Module):
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
                x = F.pad(
                    x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more_channels)
                )
            out = out + x
        return F.relu(out)


class _CifarResNet(ResNet):
    def __init__(
        self, depth: int, classes: int, normalisation: Normalisation, residual: bool, width: int
    ) -> None:
        super().__init__(normalisation)
        channels = 16 * width
        self.conv = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        blocks: list[nn.Module] = []
        for stage in (16 * width, 32 * width, 64 * width):
            for _ in range((depth - 2) // 6):
                blocks.append(_Block(channels, stage, 1 if stage == channels else 2, residual))
                channels = stage
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(channels, classes)

    def features(self, pixels: Tensor) -> Tensor:
        """The last feature map, float32 [N, channels, H/4, W/4], of uint8 pixels [N, H, W, 3]."""
        features: Tensor = self.blocks(F.relu(self.norm(self.conv(self.normalised(pixels)))))
        return features


class _ImageNetResNet(ResNet):
    """torchvision's layers under its names, so that its weights fit; `fc` is `classifier`."""

    def __init__(self, body: torchvision.models.ResNet, normalisation: Normalisation) -> None:
        super().__init__(normalisation)
        self.conv1, self.bn1, self.maxpool = body.conv1, body.bn1, body.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            body.layer1,
            body.layer2,
            body.layer3,
            body.layer4,
        )
        self.classifier = body.fc

    def features(self, pixels: Tensor) -> Tensor:
        """The last feature map, float32 [N, channels, h, w], of uint8 pixels [N, H, W, 3]."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(self.normalised(pixels)))))
        features: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return features
