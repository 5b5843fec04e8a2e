"""Training in Keras: a network of `training/keras/networks.py` with its optimizer.

Its twin is `training/torch/trainer.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from bundle.normalisation import Normalisation
from training.backend import source_artifact
from training.config import TrainConfig
from training.errors import ConfigError
from training.keras import devices
from training.keras.muon import ConvMuon
from training.keras.networks import build_network, count_parameters, feature_map
from training.keras.weights import load_weights
from training.schedule import average_decay
from training.weights.initial import Initial

PACKAGES = ("tensorflow", "keras")  # whose versions the manifest records
ARTIFACT = source_artifact("savedmodel", "saved_model")


def set_threads(threads: int) -> None:
    """Set the number of CPU threads; 0: all cores. To be called before TensorFlow computes."""
    threads = threads or os.cpu_count() or 1
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError as exc:  # TensorFlow accepts it only before its first operation
        if tf.config.threading.get_intra_op_parallelism_threads() != threads:
            raise RuntimeError(
                "A second Keras run in one process can't change the number of threads."
            ) from exc


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
        keras.utils.set_random_seed(config.seed)
        set_threads(config.threads)
        self.config = config
        self.initial = initial.record
        self.normalisation = initial.normalisation or Normalisation(
            tuple(map(float, mean)), tuple(map(float, std))
        )
        self.model = build_network(config, classes, self.normalisation)
        load_weights(self.model, initial)
        self.rank, self.world_size = devices.rank_and_world_size()
        self.strategy = _strategy(config.devices)
        # In bf16, on several devices and with a moving average a second network trains, which has
        # its own fp32 weights; `model` gets them after an epoch, or their moving average.
        self.trained = self.model
        if config.precision == "bf16" or config.ema_decay or config.devices > 1:
            policy = "mixed_bfloat16" if config.precision == "bf16" else "float32"
            with self.strategy.scope(), _policy(policy):
                self.trained = build_network(config, classes, self.normalisation)
            self.trained.set_weights(self.model.get_weights())
        if config.devices > 1:
            _synchronise(self.trained)
        self.stale = False
        self.parameters = count_parameters(self.model)
        self.feature_map = feature_map(self.model, config.image_size)
        muon_rate = config.muon_learning_rate if config.optimizer == "muon" else None
        with self.strategy.scope():
            self.optimizer = ConvMuon(
                config.learning_rate,
                muon_rate,
                config.momentum,
                config.weight_decay,
                config.decay_all,
            )
            self.optimizer.build(self.trained.trainable_variables)
        self._step = tf.function(self._train_step, reduce_retracing=True)
        self._evaluate = tf.function(
            lambda pixels: self.model(pixels, training=False), reduce_retracing=True
        )

    def _train_step(self, pixels: Any, targets: Any, weight: Any) -> tuple[Any, Any]:
        results = self.strategy.run(self._device_step, (pixels, targets))
        if self.config.ema_decay:
            self._move_average(weight)
        loss, correct = (self.strategy.reduce("SUM", result, axis=None) for result in results)
        return loss, correct

    def _device_step(self, pixels: Any, targets: Any) -> tuple[Any, Any]:
        """The step of one device on its part of the batch; the optimizer sums the gradients."""
        with tf.GradientTape() as tape:
            batch_statistics = self.config.batch_statistics  # there is no dropout
            logits = tf.cast(self.trained(pixels, training=batch_statistics)[1], tf.float32)
            losses = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
            loss = tf.reduce_mean(losses) / self.config.devices
        variables = self.trained.trainable_variables
        gradients = tape.gradient(loss, variables)
        if limit := self.config.clip_norm:
            context = tf.distribute.get_replica_context()
            norm = tf.linalg.global_norm(context.all_reduce("SUM", gradients))
            gradients = [gradient * (limit / tf.maximum(norm, limit)) for gradient in gradients]
        self.optimizer.apply(gradients, variables)
        right = tf.argmax(logits, 1) == tf.argmax(targets, 1)
        return loss, tf.reduce_sum(tf.cast(right, tf.int32))

    def _move_average(self, weight: Any) -> None:
        """Update the moving averages, those of the batch statistics included."""
        for average, value in zip(self.model.variables, self.trained.variables, strict=True):
            average.assign_add(weight * (value - average))

    def train_step(
        self, pixels: NDArray[np.uint8], targets: NDArray[np.float32], factor: float
    ) -> tuple[float, int]:
        """One step on pixels [B, H, W, 3] and soft targets [B, C] at `factor` times the peak rate.

        Returns:
            The mean loss and the number of correct predictions, over all devices.
        """
        weight = 1 - average_decay(self.config, int(self.optimizer.iterations.numpy()))
        self.optimizer.learning_rate.assign(self.config.learning_rate * factor)
        self.stale = True
        loss, correct = self._step(
            self._divided(pixels), self._divided(targets), tf.constant(weight, tf.float32)
        )
        return float(loss), int(correct)

    def _divided(self, batch: NDArray[Any]) -> Any:
        """A part of the batch for each device."""
        parts = np.split(batch, self.config.devices)
        return self.strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(parts[context.replica_id_in_sync_group])
        )

    def broadcast_metrics(self, metrics: dict[str, float]) -> dict[str, float]:
        """The metrics of rank 0, which is the only one."""
        return metrics

    def predict(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits [N, C] of pixels [N, H, W, 3], in inference mode and fp32."""
        self._sync_eval_weights()
        logits: NDArray[np.float32] = self._evaluate(tf.constant(pixels))[1].numpy()
        return logits

    def features(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `training.backend.TrainerLike`."""
        self._sync_eval_weights()
        maps = self._evaluate(tf.constant(pixels))[0].numpy()
        features: NDArray[np.float32] = maps.mean((1, 2))
        return features

    def set_classifier(self, weights: NDArray[np.float32], biases: NDArray[np.float32]) -> None:
        """See `training.backend.TrainerLike`."""
        for network in (self.trained, self.model):
            network.get_layer("classifier").set_weights([weights, biases])

    def _sync_eval_weights(self) -> None:
        """Copy the weights of `trained` to `model`, where it is no average."""
        if self.stale and self.trained is not self.model and not self.config.ema_decay:
            self.model.set_weights(self.trained.get_weights())
        self.stale = False

    def _state(self) -> list[Any]:
        state = [*self.trained.variables, *self.optimizer.variables]
        return [*state, *self.model.variables] if self.config.ema_decay else state

    def save(self, path: Path) -> None:
        """Write a checkpoint: weights, optimizer state and moving average."""
        with path.open("wb") as file:
            np.savez(file, *(variable.numpy() for variable in self._state()))

    def load(self, path: Path) -> None:
        """Read a checkpoint that `save` wrote for the same configuration."""
        with np.load(path) as arrays:
            for variable, name in zip(self._state(), arrays.files, strict=True):
                variable.assign(arrays[name])
        self.stale = True

    def round_to_half(self) -> None:
        """See `training.backend.TrainerLike`."""
        raise ConfigError(
            "The variables of a SavedModel are stored as they are computed, in fp32. Expected "
            "--framework torch with --half-weights. Received: keras"
        )

    def export(self, directory: Path) -> None:
        """Write the artifact `saved_model/` (fp32, with a bundle's signatures) into `directory`."""
        self._sync_eval_weights()
        served = tf.Module()
        served.model = self.model
        classifier = self.model.get_layer("classifier")

        def predict(pixels: Any) -> dict[str, Any]:
            return {"logits": self.model(pixels, training=False)[1]}

        def explain(pixels: Any, class_index: Any) -> dict[str, Any]:
            """Class activation maps [N, h, w] (Zhou et al. 2016)."""
            features, logits = self.model(pixels, training=False)
            weights = tf.gather(tf.transpose(classifier.kernel), class_index)  # [N, channels]
            return {"logits": logits, "heatmap": tf.einsum("nhwc,nc->nhw", features, weights)}

        size = self.config.image_size
        pixels = tf.TensorSpec([None, size, size, 3], tf.uint8, name="pixels")
        class_index = tf.TensorSpec([None], tf.int64, name="class_index")
        served.predict = tf.function(predict, input_signature=[pixels])
        served.explain = tf.function(explain, input_signature=[pixels, class_index])
        tf.saved_model.save(
            served,
            str(directory / ARTIFACT["path"]),
            signatures={"serving_default": served.predict, "explain": served.explain},
        )


def _strategy(count: int) -> tf.distribute.Strategy:
    """The strategy for `count` devices; for one the default, which only calls the step."""
    if count == 1:
        return tf.distribute.get_strategy()
    kind = "GPU" if devices.gpus() else "CPU"
    return tf.distribute.MirroredStrategy([f"{kind}:{number}" for number in range(count)])


def _synchronise(network: keras.Model) -> None:
    """Compute the statistics of batch normalisation over all devices."""
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            _synchronise(layer)
        elif isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True


@contextmanager
def _policy(name: str) -> Iterator[None]:
    """Set the dtype policy of the layers made inside."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
