"""Small Keras files and SavedModels, and the logits that their networks give.

`python -m tests.bundle.importing.make_keras FOLDER` writes `NAME` and `NAME.npy` of each.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.bundle.importing.pixels import pixels

SIZE = 32


def classifier(first: list[Any], activation: str | None, shape: Any = (SIZE, SIZE, 3)) -> Any:
    return keras.Sequential(
        [
            keras.Input(shape),
            *first,
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(3, activation=activation),
        ]
    )


def main(folder: Path) -> None:
    keras.utils.set_random_seed(0)
    values = pixels(SIZE).astype(np.float32)

    softmax = classifier([keras.layers.Rescaling(1 / 255)], "softmax")
    logits = np.log(softmax(values).numpy())
    for name in ("softmax.keras", "softmax.h5", "exported"):
        np.save(folder / f"{name}.npy", logits)
    softmax.save(folder / "softmax.keras")
    softmax.save(folder / "softmax.h5")
    softmax.export(folder / "exported", verbose=False)

    plain = classifier([], None)
    plain.save(folder / "plain.keras")
    np.save(folder / "plain.keras.npy", plain(values / 127.5 - 1).numpy())

    mobile = keras.applications.MobileNet(weights=None, classes=3, input_shape=(SIZE, SIZE, 3))
    mobile.layers[-1].activation = keras.activations.linear
    mobile.save_weights(folder / "mobile.weights.h5")
    np.save(folder / "mobile.weights.h5.npy", mobile(values / 127.5 - 1).numpy())
    for name in ("lambda.keras", "lambda.h5"):
        classifier([keras.layers.Lambda(lambda x: x / 255)], None).save(folder / name)
    classifier([keras.layers.Rescaling(1 / 255)], "sigmoid").save(folder / "sigmoid.keras")

    class Fixed(tf.Module):  # type: ignore[misc]
        """Two uint8 images at a time, and several outputs."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = plain

        @tf.function(input_signature=[tf.TensorSpec([2, SIZE, SIZE, 3], tf.uint8)])  # type: ignore[untyped-decorator]
        def serve(self, image: Any) -> Any:
            outputs = self.inner(tf.cast(image, tf.float32))
            return {"logits": tf.reshape(outputs, [2, 3]), "boxes": tf.zeros([2, 4, 4])}

    fixed = Fixed()
    tf.saved_model.save(fixed, str(folder / "fixed"), signatures={"serving_default": fixed.serve})
    np.save(folder / "fixed.npy", plain(values).numpy())

    class Unsafe(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec([None, SIZE, SIZE, 3], tf.float32)])  # type: ignore[untyped-decorator]
        def serve(self, image: Any) -> Any:
            tf.io.write_file(str(folder / "written-by-the-model"), "x")
            return {"logits": tf.reduce_mean(image, [1, 2])}

    unsafe = Unsafe()
    tf.saved_model.save(
        unsafe, str(folder / "unsafe"), signatures={"serving_default": unsafe.serve}
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
