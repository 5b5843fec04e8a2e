"""The linear probe against classifiers that are known to be best."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from training.data.dataset import DataSet, Split
from training.errors import DataError
from training.probe import DECAYS, fit_probe


class Features:
    """A trainer whose features are the mean colours, times `scale`."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale, self.seen = scale, 0

    def features(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.seen += len(pixels)
        means: NDArray[np.float32] = pixels.mean((1, 2), dtype=np.float32) * np.float32(self.scale)
        return means


def split(count: int, seed: int, noise: float, shares: tuple[float, ...]) -> Split:
    """Colours around one centre for each class, as many as its share says."""
    generator = np.random.default_rng(seed)
    labels = np.sort(generator.choice(len(shares), count, p=shares))
    centres = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200]])
    colours = centres[labels] + generator.normal(0, noise, (count, 3))
    pixels = np.clip(colours, 0, 255).astype(np.uint8)[:, None, None].repeat(2, 1).repeat(2, 2)
    return Split(pixels, labels, [Path("x")] * count)


def data(noise: float, *shares: float) -> DataSet:
    labels = ["red", "green", "blue"][: len(shares)]
    train, validation = split(300, 0, noise, shares), split(100, 1, noise, shares)
    return DataSet("colours", labels, train, validation, validation, [], 0.25)


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.3, 0.3, 0.4)], ids=["two", "three"])
def test_colours_that_are_apart_are_told_apart_and_each_image_is_seen_once(
    shares: tuple[float, ...],
) -> None:
    images, trainer, shown = data(20, *shares), Features(), list[float]()

    probe = fit_probe(trainer, images, np.ones(len(shares)), shown.append)  # type: ignore[arg-type]

    logits = trainer.features(images.test.pixels) @ probe.weights + probe.biases
    assert logits.shape == (100, len(shares))
    assert (logits.argmax(1) == images.test.labels).all()
    assert probe.accuracy == 1
    assert probe.loss < 0.05
    assert trainer.seen == 500
    assert shown[-1] == 1


def test_noise_is_answered_with_a_stronger_decay() -> None:
    trainer: Any = Features()

    clear, noisy = (fit_probe(trainer, data(n, 0.3, 0.3, 0.4), np.ones(3)) for n in (5, 150))

    assert clear.decay < noisy.decay
    assert {clear.decay, noisy.decay} <= set(DECAYS)


def test_the_scale_of_the_features_does_not_matter() -> None:
    images = data(60, 0.3, 0.3, 0.4)
    small, large = (
        fit_probe(Features(scale), images, np.ones(3))  # type: ignore[arg-type]
        for scale in (1e-3, 1e3)
    )

    assert small.decay == large.decay
    np.testing.assert_allclose(small.weights, large.weights * 1e6, rtol=1e-2)


def test_class_weights_move_the_boundary_towards_the_common_class() -> None:
    images = data(90, 0.9, 0.1)
    trainer: Any = Features()

    plain, weighted = (fit_probe(trainer, images, np.array(w)) for w in ([1.0, 1.0], [1.0, 9.0]))

    def greens(biases: NDArray[np.float32], weights: NDArray[np.float32]) -> int:
        logits = trainer.features(images.test.pixels) @ weights + biases
        return int((logits.argmax(1) == 1).sum())

    assert greens(weighted.biases, weighted.weights) > greens(plain.biases, plain.weights)


@pytest.mark.parametrize(
    ("train", "validation", "text"),
    [
        ([0, 2], [0, 1, 2], "2 training images of 2 of 3 classes"),
        ([0, 1, 2], [], "0 validation images"),
    ],
    ids=["class", "validation"],
)
def test_too_few_images_for_a_probe_are_an_error_that_says_what_is_missing(
    train: list[int], validation: list[int], text: str
) -> None:
    def of(labels: list[int]) -> Split:
        pixels = np.zeros((len(labels), 2, 2, 3), np.uint8)
        return Split(pixels, np.array(labels, np.int64), [Path("x")] * len(labels))

    images = DataSet("colours", ["a", "b", "c"], of(train), of(validation), of([0]), [], 0.25)

    with pytest.raises(DataError, match=text):
        fit_probe(Features(), images, np.ones(3))  # type: ignore[arg-type]
