"""The TensorFlow side of training: a network of `training/keras/networks.py` with its optimizer.

Its twin is `training/torch/trainer.py`: the same names in the same order, with the same types.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read when tensorflow is imported
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from training.config import TrainConfig
from training.keras import devices
from training.keras.networks import build_network, count_parameters, feature_map
from training.keras.weights import put
from training.schedule import average_decay
from training.weights.initial import Initial
from training.weights.normalisation import Normalisation

PACKAGES = ("tensorflow", "keras")  # whose versions the manifest records
ARTIFACT = {
    "id": "savedmodel-fp32",
    "format": "savedmodel",
    "path": "saved_model",
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
    """Compute with so many threads; 0: as many as there are cores. To be called before TensorFlow computes."""
    threads = threads or os.cpu_count() or 1
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError as exc:  # TensorFlow takes it only before its first operation
        if tf.config.threading.get_intra_op_parallelism_threads() != threads:
            raise RuntimeError(
                "A second Keras run in one process can't change the number of threads."
            ) from exc


class ConvMuon(keras.optimizers.SGD):
    """SGD; for convolution kernels momentum orthogonalised, each kept at the norm sqrt(filters) (Jordan et al. 2024).

    keras.optimizers.Muon takes matrices only. `kernel_rate` is the length of a step relative to the weights, at the
    peak of the schedule. The decay is L2, added to the gradient as in torch.optim.SGD.
    """

    def __init__(
        self, peak_rate: float, kernel_rate: float | None, momentum: float, decay: float
    ) -> None:
        super().__init__(peak_rate, momentum, nesterov=True)
        self.kernel_ratio = None if kernel_rate is None else kernel_rate / peak_rate
        self.decay = decay

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        if self.kernel_ratio is None or len(variable.shape) != 4:
            # Keras scales the gradient by the rate before it enters the momentum, PyTorch after: with a rate that
            # changes slowly the two agree.
            super().update_step(gradient + self.decay * variable, variable, learning_rate)
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
    """The nearest semi-orthogonal matrix, roughly, by Newton-Schulz iteration."""
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = keras.ops.transpose(matrix) if tall else matrix
    x = x / (keras.ops.norm(x) + 1e-7)
    for _ in range(steps):
        gram = x @ keras.ops.transpose(x)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return keras.ops.transpose(x) if tall else x


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
        keras.utils.set_random_seed(config.seed)
        set_threads(config.threads)
        self.config = config
        self.initial = initial.record
        self.normalisation = initial.normalisation or Normalisation(
            tuple(map(float, mean)), tuple(map(float, std))
        )
        self.model = build_network(config, classes, self.normalisation)
        put(self.model, initial)
        self.share = devices.share()
        self.strategy = _strategy(config.devices)
        # What computes in bf16 or on several devices is a second network with its own fp32 weights; `model` takes them
        # over after an epoch, or holds their moving average.
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
                config.learning_rate, muon_rate, config.momentum, config.weight_decay
            )
            self.optimizer.build(self.trained.trainable_variables)
        self._steps = {
            frozen: tf.function(partial(self._train_step, frozen), reduce_retracing=True)
            for frozen in (False, True)
        }
        self.frozen = False
        self._predict = tf.function(
            lambda pixels: self.model(pixels, training=False)[1], reduce_retracing=True
        )

    def freeze(self, frozen: bool) -> None:
        """Whether only the classifier trains; the backbone then runs as it is served, with its statistics frozen."""
        self.frozen = frozen

    def _train_step(self, frozen: bool, pixels: Any, targets: Any, weight: Any) -> tuple[Any, Any]:
        figures = self.strategy.run(partial(self._device_step, frozen), (pixels, targets))
        if self.config.ema_decay:
            self._move_average(weight)
        loss, correct = (self.strategy.reduce("SUM", figure, axis=None) for figure in figures)
        return loss, correct

    def _device_step(self, frozen: bool, pixels: Any, targets: Any) -> tuple[Any, Any]:
        """The step of one device on its share of the batch; the optimizer adds the gradients of all devices."""
        with tf.GradientTape() as tape:
            logits = tf.cast(self.trained(pixels, training=not frozen)[1], tf.float32)
            losses = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
            loss = tf.reduce_mean(losses) / self.config.devices
        trained = self.trained.get_layer("classifier") if frozen else self.trained
        variables = trained.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        right = tf.argmax(logits, 1) == tf.argmax(targets, 1)
        return loss, tf.reduce_sum(tf.cast(right, tf.int32))

    def _move_average(self, weight: Any) -> None:
        """Move the averages, those of the batch statistics among them, towards the values that training has reached."""
        for average, value in zip(self.model.variables, self.trained.variables, strict=True):
            average.assign_add(weight * (value - average))

    def train_step(
        self, pixels: NDArray[np.uint8], targets: NDArray[np.float32], factor: float
    ) -> tuple[float, int]:
        """One step on uint8 [B, H, W, 3] and the shares of the classes float32 [B, C], at `factor` of the peak rates.

        Returns:
            The mean loss, and how many answers are the class with the largest share, of all devices together.
        """
        weight = 1 - average_decay(self.config, int(self.optimizer.iterations.numpy()))
        self.optimizer.learning_rate.assign(self.config.learning_rate * factor)
        self.stale = True
        loss, correct = self._steps[self.frozen](
            self._shares(pixels), self._shares(targets), tf.constant(weight, tf.float32)
        )
        return float(loss), int(correct)

    def _shares(self, batch: NDArray[Any]) -> Any:
        """A part of the batch for each device."""
        parts = np.split(batch, self.config.devices)
        return self.strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(parts[context.replica_id_in_sync_group])
        )

    def agree(self, figures: dict[str, float]) -> dict[str, float]:
        """The figures of the first process, which is the only one."""
        return figures

    def predict(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """float32 logits [N, C] of uint8 pixels [N, H, W, 3], as served: batch statistics frozen."""
        self._sync_eval_weights()
        logits: NDArray[np.float32] = self._predict(tf.constant(pixels)).numpy()
        return logits

    def _sync_eval_weights(self) -> None:
        """Give `model` the weights that training has reached."""
        if self.stale and self.trained is not self.model and not self.config.ema_decay:
            self.model.set_weights(self.trained.get_weights())
        self.stale = False

    def _state(self) -> list[Any]:
        state = [*self.trained.variables, *self.optimizer.variables]
        return [*state, *self.model.variables] if self.config.ema_decay else state

    def save(self, path: Path) -> None:
        """Write weights, optimizer state and the average to `path`."""
        with path.open("wb") as file:
            np.savez(file, *(variable.numpy() for variable in self._state()))

    def load(self, path: Path) -> None:
        """Read what `save` wrote for the same configuration."""
        with np.load(path) as arrays:
            for variable, name in zip(self._state(), arrays.files, strict=True):
                variable.assign(arrays[name])
        self.stale = True

    def export(self, directory: Path) -> None:
        """Write the artifact `saved_model/` into `directory`, in fp32, with the signatures of a bundle."""
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
    """What computes a step on so many devices: for one the default strategy, which just calls it."""
    if count == 1:
        return tf.distribute.get_strategy()
    kind = "GPU" if devices.gpus() else "CPU"
    return tf.distribute.MirroredStrategy([f"{kind}:{number}" for number in range(count)])


def _synchronise(network: keras.Model) -> None:
    """Let batch normalisation take its statistics from the whole batch and not from the share of a device."""
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            _synchronise(layer)
        elif isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True


@contextmanager
def _policy(name: str) -> Iterator[None]:
    """Layers made inside compute in the precision that Keras calls `name`."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


class EventWriter:
    """TensorBoard event files of a run."""

    def __init__(self, directory: Path, first_epoch: int) -> None:  # noqa: ARG002 - the face of the twin
        """TensorBoard shows the last value written for an epoch, so a resumed run continues its curves."""
        self.writer = tf.summary.create_file_writer(str(directory))

    def write(self, epoch: int, scalars: Mapping[str, float]) -> None:
        with self.writer.as_default():
            for name, value in scalars.items():
                tf.summary.scalar(name, value, epoch)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()
