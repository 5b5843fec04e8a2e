"""JPEG decoders, from bytes to model input: speed, and the accuracy lost by reduced decoding.

    .venv/bin/python -m benchmarks.decoders                                     # speed
    .venv/bin/python -m benchmarks.decoders --data FOLDER --model models/NAME   # and accuracy

Interleaved rounds in one process on one core, medians; the photos are synthetic, in common sizes.
For the accuracy, images of FOLDER/test are enlarged, saved as JPEG and decoded at full size and
reduced; both go through the artifact of the bundle.
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.models import photo
from bundle.format.manifest import Crop, Input, ShorterSide, read_manifest
from bundle.imaging import turbo
from bundle.imaging.decode import decode_image, read_input
from bundle.imaging.geometry import prepare
from bundle.worker.blocking import RuntimeProcess

SIZES = {"500 x 375": (500, 375), "12 megapixels": (4000, 3000)}
ROUNDS = 7
GEOMETRY = Input(
    height=256,
    width=256,
    color_mode="RGB",
    dtype="uint8",
    layout="NHWC",
    resize=ShorterSide(rule="shorter_side", size=256, interpolation="bilinear"),
    crop=Crop(rule="center", height=256, width=256),
)
console = Console(highlight=False)

Decoder = Callable[[bytes, Input], npt.NDArray[np.uint8]]


def pillow(data: bytes, geometry: Input) -> npt.NDArray[np.uint8]:
    """Pillow at full size."""
    return prepare(np.array(Image.open(io.BytesIO(data)).convert("RGB")), geometry)


def pillow_draft(data: bytes, geometry: Input) -> npt.NDArray[np.uint8]:
    """Pillow's draft mode, with the same reducing gap as ours."""
    image = Image.open(io.BytesIO(data))
    side = turbo.GAP * geometry.resize.size if isinstance(geometry.resize, ShorterSide) else 0
    image.draft("RGB", (side, side))
    return prepare(np.array(image), geometry)


def torchvision_io(data: bytes, geometry: Input) -> npt.NDArray[np.uint8]:
    """torchvision.io at full size."""
    import torch  # noqa: PLC0415 - seconds to import
    from torchvision.io import decode_jpeg  # noqa: PLC0415

    pixels = decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    return prepare(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()), geometry)


def whole(data: bytes, geometry: Input) -> npt.NDArray[np.uint8]:
    """The service's decoder with its checks, at full size."""
    return prepare(decode_image(data).pixels, geometry)


def served(data: bytes, geometry: Input) -> npt.NDArray[np.uint8]:
    """The service's decoder with its checks, reduced if that is enough."""
    return read_input(data, geometry).pixels


DECODERS: dict[str, Decoder] = {
    "Pillow": pillow,
    "Pillow, draft mode": pillow_draft,
    "torchvision.io": torchvision_io,
    "service, whole": whole,
    "service": served,
}


def main(
    data: Annotated[Path | None, typer.Option(help="A folder with test/<class>/ images.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="A bundle folder, models/NAME/VERSION.")
    ] = None,
    images: Annotated[int, typer.Option(help="Test images of each class for the accuracy.")] = 100,
    side: Annotated[int, typer.Option(help="Pixels of the sides of the enlarged images.")] = 512,
) -> None:
    """Print the speed, and with --data and --model the accuracy."""
    speed()
    if data is not None and model is not None:
        accuracy(data, model, images, side)


def speed() -> None:
    """Print the median CPU time per image, and the ratio to Pillow in the same rounds."""
    for name, size in SIZES.items():
        image = photo(*size)
        repeats = max(1, 2_000_000 // (size[0] * size[1]))
        seconds: dict[str, list[float]] = {decoder: [] for decoder in DECODERS}
        for _ in track(range(ROUNDS), name, console=console, transient=True):
            for decoder, decode in DECODERS.items():
                started = time.process_time()
                for _ in range(repeats):
                    decode(image, GEOMETRY)
                seconds[decoder].append((time.process_time() - started) / repeats)
        base = statistics.median(seconds["Pillow"])
        table = Table(
            f"{name}, {len(image) / 1000:.0f} kB, to 256 x 256", "ms", "spread", "x Pillow"
        )
        for decoder, values in seconds.items():
            middle = statistics.median(values)
            spread = f"{min(values) * 1000:.2f} to {max(values) * 1000:.2f}"
            table.add_row(decoder, f"{middle * 1000:.2f}", spread, f"{base / middle:.2f}")
        console.print(table)


def accuracy(data: Path, model: Path, per_class: int, side: int) -> None:
    """Print the top-1 accuracy at full size and reduced, and how often the predictions agree."""
    manifest = read_manifest(model)
    labels = []
    read: dict[str, list[npt.NDArray[np.uint8]]] = {"whole": [], "reduced": []}
    reductions: set[str] = set()
    files = [
        (i, file)
        for i, name in enumerate(manifest.labels)
        for file in sorted((data / "test" / name).iterdir())[:per_class]
    ]
    for label, file in track(files, "Reading", console=console, transient=True):
        original = Image.open(file).convert("RGB")
        enlarged = original.resize((side, side), Image.Resampling.BICUBIC)
        content = io.BytesIO()
        enlarged.save(content, "JPEG", quality=90)
        image = read_input(content.getvalue(), manifest.input)
        reductions.update(image.info.operations)
        read["reduced"].append(image.pixels)
        read["whole"].append(whole(content.getvalue(), manifest.input))
        labels.append(label)
    with RuntimeProcess(model) as runtime:
        runtime.start(300)
        best = {
            way: runtime.infer_all(np.stack(pixels), 300).argmax(1) for way, pixels in read.items()
        }
    right = {way: float((top == labels).mean()) for way, top in best.items()}
    console.print(
        f"{len(labels)} test images enlarged to {side} pixels "
        f"({', '.join(sorted(reductions))}): accuracy {right['whole']:.2%} at full size, "
        f"{right['reduced']:.2%} reduced; the same prediction for "
        f"{float((best['whole'] == best['reduced']).mean()):.2%}"
    )


if __name__ == "__main__":
    typer.run(main)
