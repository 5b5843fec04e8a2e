"""The golden samples: images for where there is no photo, and the scores that are recorded."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bundle.format.manifest import Input
from bundle.imaging.decode import read_input
from bundle.scores import calibrated_softmax, top_k

GOLDEN_SAMPLES = 4
# On scores: above the noise between processors, below any change that matters.
GOLDEN_TOLERANCE = 1e-3
GOLDEN_TOP = 5

Files = list[tuple[str, bytes]]


def golden_pixels(golden: Files, geometry: Input) -> NDArray[np.uint8]:
    """The golden images as input of a network, uint8 [N, H, W, 3]."""
    return np.stack([read_input(content, geometry).pixels for _, content in golden])


def golden_record(
    golden: Files, logits: NDArray[np.float32], labels: Sequence[str], temperature: float
) -> dict[str, Any]:
    """The golden samples of the manifest: the best scores of each image, from its logits [N, C]."""
    scores = calibrated_softmax(logits, temperature)
    samples = []
    for (file, _), row in zip(golden, scores, strict=True):
        top = [
            {"index": item["index"], "label": item["label"], "score": item["score"]}
            for item in top_k(row, labels, min(GOLDEN_TOP, len(labels)))
        ]
        samples.append({"file": f"golden/{file}", "top": top})
    return {"tolerance": GOLDEN_TOLERANCE, "samples": samples}


def drawn_images() -> Files:
    """File name and content of images for where there is no photo: fixed soft blobs of colour."""
    generator = np.random.default_rng(0)
    colours = (generator.integers(0, 256, (6, 8, 3), dtype=np.uint8) for _ in range(GOLDEN_SAMPLES))
    return as_files(
        Image.fromarray(each).resize((320, 240), Image.Resampling.BICUBIC) for each in colours
    )


def as_files(images: Iterable[Image.Image]) -> Files:
    """File name and content of images as PNG."""
    files = []
    for number, image in enumerate(images):
        content = io.BytesIO()
        image.save(content, "PNG")
        files.append((f"{number}.png", content.getvalue()))
    return files
