"""The networks in Keras: the CIFAR ResNets of He et al. 2016, section 4.2, and those of table 1.

Its twin is `training/torch/networks.py`. References: K. He, X. Zhang, S. Ren, J. Sun, "Deep
Residual Learning for Image Recognition", CVPR 2016; for the v2 networks the same authors' "Identity
Mappings in Deep Residual Networks", ECCV 2016.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from bundle.normalisation import Normalisation
from training.config import TrainConfig

BASIC_BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}  # blocks in each stage
APPLICATIONS = {
    "resnet50": keras.applications.ResNet50,
    "resnet101": keras.applications.ResNet101,
    "resnet152": keras.applications.ResNet152,
    "resnet50v2": keras.applications.ResNet50V2,
    "resnet101v2": keras.applications.ResNet101V2,
    "resnet152v2": keras.applications.ResNet152V2,
}


def build_network(config: TrainConfig, classes: int, normalisation: Normalisation) -> keras.Model:
    """The network of the configuration, randomly initialised: uint8 pixels [N, H, W, 3] in.

    It has two outputs, the last feature map and the logits. `classifier` is the last linear layer,
    whose weights are the last two; everything else is the backbone.
    """
    if config.family == "cifar":
        return cifar_resnet(config.depth, classes, normalisation, config.residual, config.width)
    return imagenet_resnet(config.arch, classes, normalisation, config.small_stem)


def cifar_resnet(
    depth: int, classes: int, normalisation: Normalisation, residual: bool, width: int = 1
) -> keras.Model:
    """ResNet-(6n+2) for small images: the feature map is [N, H/4, W/4, 64 x width]."""
    pixels = keras.Input((None, None, 3), dtype="uint8")
    channels = 16 * width
    x = layers.ReLU()(_conv_norm(_normalised(pixels, normalisation), channels, 3, 1))
    for stage in (16 * width, 32 * width, 64 * width):
        for _ in range((depth - 2) // 6):
            x = _block(x, stage, 1 if stage == channels else 2, "pad" if residual else "none")
            channels = stage
    return _classified(pixels, x, classes)


def imagenet_resnet(
    arch: str, classes: int, normalisation: Normalisation, small_stem: bool
) -> keras.Model:
    """ResNet-18 to ResNet-152: the feature map is [N, H/32, W/32, 512 or 2048].

    `small_stem` replaces the 7x7 convolution and the pooling, which leave too little of a small
    image, by a 3x3 convolution of stride 1; the feature map is then [N, H/8, W/8, 512].
    """
    pixels = keras.Input((None, None, 3), dtype="uint8")
    x = _normalised(pixels, normalisation)
    if arch in APPLICATIONS:
        backbone = APPLICATIONS[arch](
            include_top=False, weights=None, input_shape=(None, None, 3), name="backbone"
        )
        return _classified(pixels, backbone(x), classes)
    x = layers.ReLU()(_conv_norm(x, 64, 3, 1) if small_stem else _conv_norm(x, 64, 7, 2))
    if not small_stem:
        # PyTorch pads a maximum with minus infinity; after a ReLU zero is the same.
        x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))
    for stage, blocks in enumerate(BASIC_BLOCKS[arch]):
        for number in range(blocks):
            x = _block(x, 64 * 2**stage, 2 if stage and not number else 1, "project")
    return _classified(pixels, x, classes)


def count_parameters(network: keras.Model) -> int:
    """The number of trainable parameters."""
    return sum(int(np.prod(variable.shape)) for variable in network.trainable_variables)


def feature_map(network: keras.Model, image_size: int) -> tuple[int, int, int]:
    """Height, width and channels of the last feature map for images of `image_size` squared."""
    (_, height, width, channels), _ = network.compute_output_shape((1, image_size, image_size, 3))
    return height, width, channels


class BatchNormalization(layers.BatchNormalization):  # type: ignore[misc]
    """In training, TensorFlow's fused kernel instead of Keras's elementwise operations.

    On a CPU an epoch of ResNet-20 takes 0.8 of the time in fp32 and 0.6 in bf16. There is no such
    kernel for `synchronized`, the statistics of a batch that several devices share.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if not training:
            return super().call(inputs, training=training, mask=mask)
        gamma, beta = tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta)
        if self.synchronized:
            values = tf.cast(inputs, tf.float32)
            mean, variance = keras.ops.moments(values, (0, 1, 2), synchronized=True)
            outputs = tf.nn.batch_normalization(values, mean, variance, beta, gamma, self.epsilon)
            outputs = tf.cast(outputs, inputs.dtype)
            count = (
                tf.size(values)
                / values.shape[-1]
                * tf.distribute.get_strategy().num_replicas_in_sync
            )
            # Unbiased, as the fused kernel returns it.
            variance *= tf.cast(count / (count - 1), tf.float32)
        else:
            outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
                inputs, gamma, beta, epsilon=self.epsilon, is_training=True
            )
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1 - self.momentum))
        return outputs


def _normalised(pixels: Any, normalisation: Normalisation) -> Any:
    """float32 [N, H, W, 3] of uint8 pixels [N, H, W, 3]."""
    mean, std = (np.array(v, np.float32) for v in (normalisation.mean, normalisation.std))
    x = keras.ops.cast(pixels, "float32")
    if normalisation.order == "BGR":
        x = keras.ops.flip(x, -1)
    return (x - mean) * (1 / std)


def _classified(pixels: Any, features: Any, classes: int) -> keras.Model:
    """The network from `pixels` to the feature map and its logits."""
    channels = features.shape[-1]
    # The bounds of torch.nn.Linear: uniform in +-1/sqrt(inputs).
    init = keras.initializers.RandomUniform(-(channels**-0.5), channels**-0.5)
    pooled = layers.GlobalAveragePooling2D()(features)
    logits = layers.Dense(
        classes, name="classifier", kernel_initializer=init, bias_initializer=init
    )(pooled)
    return keras.Model(pixels, [features, logits])


def _conv_norm(x: Any, channels: int, kernel: int, stride: int) -> Any:
    """A convolution and batch normalisation, with PyTorch's padding, momentum and epsilon."""
    # "same" pads a strided convolution at the end only; PyTorch's padding pads both sides.
    if stride > 1 and kernel > 1:
        x = layers.ZeroPadding2D(kernel // 2)(x)
    init = keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")
    padding = "valid" if stride > 1 else "same"
    x = layers.Conv2D(channels, kernel, stride, padding, use_bias=False, kernel_initializer=init)(x)
    return BatchNormalization(momentum=0.9, epsilon=1e-5)(x)


def _block(x: Any, channels: int, stride: int, shortcut: str) -> Any:
    """Two 3x3 convolutions and a shortcut: none, "pad" (option A) or "project", 1x1 (option B)."""
    out = layers.ReLU()(_conv_norm(x, channels, 3, stride))
    out = _conv_norm(out, channels, 3, 1)
    if stride > 1 and shortcut == "pad":
        more_channels = channels - x.shape[-1]
        x = keras.ops.pad(x[:, ::stride, ::stride, :], [[0, 0], [0, 0], [0, 0], [0, more_channels]])
    elif stride > 1 and shortcut == "project":
        x = _conv_norm(x, channels, 1, stride)
    if shortcut != "none":
        out = layers.Add()([out, x])
    return layers.ReLU()(out)
