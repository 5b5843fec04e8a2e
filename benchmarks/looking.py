"""Whether heat maps show where the object is, and embeddings which pictures are alike.

    python -m benchmarks.looking --bundle models/imagenet-resnet50/1 --artifact openvino-int8
                                 --photos FOLDER

`FOLDER` has photos named by their class, as `n01440764_tench.JPEG`: an identifier or a label of the
bundle, then `_` or `.`. Each is pasted, square, into a corner of a grey canvas of twice its side.
Where the network names the photo's class there, the maximum of the heat map should be in that
quarter; by chance it is in 25 %. An embedding is compared with that of the same photo at half the
size in a JPEG of quality 60, and with those of all other photos. Printed is one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from bundle.format.manifest import Manifest, read_manifest
from bundle.imaging.decode import decode_image, read_input
from bundle.imaging.geometry import seen
from bundle.runtimes import Model, load_model

GREY = (128, 128, 128)
SIDE = 256  # of the pasted photo, in pixels; the canvas has twice this
SEED = 0
CALLS = 20  # of each kind of pass, for its time


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--artifact", required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    manifest = read_manifest(given.bundle)
    artifact = next(each for each in manifest.artifacts if each.id == given.artifact)
    model = load_model(given.bundle, artifact, "cpu", given.threads)
    found = {
        "artifact": artifact.id,
        **located(model, manifest, given.photos),
        **alike(model, manifest, given.photos),
        **costs(model, manifest),
    }
    print(json.dumps(found))  # noqa: T201


def class_of(manifest: Manifest, file: Path) -> int | None:
    """The class that the name of a file begins with; None: it has none."""
    name = re.split(r"[_.]", file.name)[0]
    names = manifest.label_ids or manifest.labels
    return names.index(name) if name in names else None


def located(model: Model, manifest: Manifest, folder: Path, seed: int = SEED) -> dict[str, int]:
    """How often the maximum of the heat map is in the quarter of the photo, of right answers."""
    random = np.random.default_rng(seed)
    tried = right = inside = 0
    for file in sorted(folder.iterdir()):
        index = class_of(manifest, file)
        if index is None:
            continue
        corner = random.integers(0, 2, 2)
        image = read_input(on_canvas(file.read_bytes(), corner), manifest.input)
        outputs = model.run(image.pixels[None], np.array([index], np.int64))
        tried += 1
        if outputs.heatmaps is None or outputs.logits[0].argmax() != index:
            continue
        right += 1
        heatmap, part = outputs.heatmaps[0], seen(image.info, manifest.input)
        row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
        down = part["top"] + (row + 0.5) / heatmap.shape[0] * part["height"]
        across = part["left"] + (column + 0.5) / heatmap.shape[1] * part["width"]
        quarter = int(down > part["image_height"] / 2), int(across > part["image_width"] / 2)
        inside += quarter == tuple(corner)
    return {"photos": tried, "right": right, "maximum_in_the_quarter": inside}


def on_canvas(data: bytes, corner: npt.NDArray[np.int64]) -> bytes:
    """A PNG file of a photo in a corner of a grey canvas: row 0 or 1, column 0 or 1."""
    photo = Image.fromarray(decode_image(data).pixels)
    side = min(photo.size)
    left, top = (photo.width - side) // 2, (photo.height - side) // 2
    square = photo.resize((SIDE, SIDE), box=(left, top, left + side, top + side))
    canvas = Image.new("RGB", (2 * SIDE, 2 * SIDE), GREY)
    canvas.paste(square, (int(corner[1]) * SIDE, int(corner[0]) * SIDE))
    file = BytesIO()
    canvas.save(file, "PNG", compress_level=1)
    return file.getvalue()


def alike(model: Model, manifest: Manifest, folder: Path) -> dict[str, object]:
    """Cosines of photos with small copies of themselves, and with the nearest other photo."""
    photos: list[npt.NDArray[np.float32]] = []
    copies: list[npt.NDArray[np.float32]] = []
    for file in sorted(folder.iterdir()):
        data = file.read_bytes()
        photo = Image.fromarray(decode_image(data).pixels)
        small = BytesIO()
        photo.resize((photo.width // 2, photo.height // 2)).save(small, "JPEG", quality=60)
        for vectors, each in ((photos, data), (copies, small.getvalue())):
            pixels = read_input(each, manifest.input).pixels[None]
            (vector,) = model.run(pixels, embeddings=True).embeddings  # type: ignore[misc]
            vectors.append(vector / np.linalg.norm(vector))
    cosines = np.array(photos) @ np.array(copies).T
    own = np.diag(cosines).copy()
    np.fill_diagonal(cosines, -1)
    others = cosines.max(axis=1)
    return {
        "own_copy_is_nearest": int((own > others).sum()),
        "cosine_with_own_copy_1st_percentile_and_median": quantiles(own, 1, 50),
        "cosine_with_nearest_other_median_and_99th_percentile": quantiles(others, 50, 99),
    }


def quantiles(values: npt.NDArray[np.float32], *percent: float) -> list[float]:
    """Some percentiles, rounded."""
    return [round(float(each), 3) for each in np.percentile(values, percent)]


def costs(model: Model, manifest: Manifest) -> dict[str, object]:
    """Milliseconds of a pass of one image of each kind: the medians of interleaved calls."""
    size = (1, manifest.input.height, manifest.input.width, 3)
    pixels = np.random.default_rng(SEED).integers(0, 256, size, np.uint8)
    kinds: dict[str, Callable[[], object]] = {
        "logits": lambda: model.run(pixels),
        "heat_map": lambda: model.run(pixels, np.zeros(1, np.int64)),
        "embedding": lambda: model.run(pixels, embeddings=True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(CALLS):
        for name, run in kinds.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return {"pass_ms": {name: round(1000 * np.median(each), 1) for name, each in seconds.items()}}


if __name__ == "__main__":
    main()
