"""Pictures that are drawn: charts, pages of text, noise and gradients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[2]
SIDE = 300
Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator], Floats]


def charts(folder: Path, count: int = 96) -> None:
    """Charts of eight kinds in four styles."""
    mpl.use("Agg")
    # After the choice of what draws.
    import matplotlib.pyplot as plt  # noqa: PLC0415

    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    styles = ("default", "ggplot", "dark_background", "grayscale")
    for number in range(count):
        with plt.style.context(styles[number // 8 % 4]):
            figure, axes = plt.subplots(figsize=random.uniform(4, 8, 2))
            parts = random.uniform(1, 9, int(random.integers(4, 12)))
            match number % 8:
                case 0:
                    axes.plot(random.normal(size=(50, 4)).cumsum(0), label=list("ABCD"))
                    axes.legend()
                case 1:
                    axes.bar(range(len(parts)), parts)
                case 2:
                    x, y = random.normal(size=(2, 100))
                    axes.scatter(x, y, c=random.uniform(size=100))
                case 3:
                    axes.pie(parts, labels=[f"part {each}" for each in range(len(parts))])
                case 4:
                    axes.hist(random.gamma(2, size=500), bins=30)
                case 5:
                    figure.colorbar(axes.imshow(random.uniform(size=(len(parts), len(parts)))))
                case 6:
                    axes.boxplot(random.normal(size=(50, len(parts))))
                case _:
                    axes.axis("off")
                    axes.table(cellText=random.integers(0, 999, (8, 5)).tolist(), loc="center")
            axes.set_title(f"Figure {number}")
            figure.savefig(folder / f"{number:03}.png", dpi=90)
            plt.close(figure)


def pages(folder: Path, count: int = 120) -> None:
    """Pages of text in several sizes, dark and light, some of them at an angle."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    words = (ROOT / "docs/operation.md").read_text(encoding="utf-8").split()
    for number in range(count):
        width, height = ((850, 1100), (1280, 800), (600, 600), (390, 844))[number % 4]
        size = (18, 15, 70, 36, 24)[number % 5]
        shades = random.integers(215, 256, 3), random.integers(0, 90, 3)
        paper, ink = (tuple(map(int, each)) for each in shades[:: random.choice((1, -1))])
        page = Image.new("RGB", (width, height), paper)
        draw, font = ImageDraw.Draw(page), ImageFont.load_default(size)
        start = int(random.integers(0, len(words) // 2))
        x = y = 40.0
        for word in words[start:]:
            if x + draw.textlength(word, font) > width - 40:
                x, y = 40.0, y + size * 1.45
            if y > height - size:
                break
            draw.text((x, y), word, ink, font)
            x += draw.textlength(f"{word} ", font)
        if number % 3 == 2:
            page = page.rotate(float(random.uniform(-8, 8)), fillcolor=paper)
        page.save(folder / f"{number:03}.png")


def noise(folder: Path, of_each: int = 14) -> None:
    """Noise, gradients, plain colours, blobs and patterns."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for kind, draw in KINDS.items():
        for number in range(of_each):
            pixels = np.broadcast_to(draw(random), (SIDE, SIDE, 3))
            picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
            picture.save(folder / f"{kind}-{number:02}.png")


def _two(random: np.random.Generator) -> Floats:
    return random.uniform(0, 255, (2, 3))


def _mixed(random: np.random.Generator, share: Floats) -> Floats:
    """Two colours, mixed by a share [H, W]."""
    first, second = _two(random)
    mixed: Floats = first + (second - first) * share[..., None]
    return mixed


def _blobs(cells: int) -> Draw:
    def draw(random: np.random.Generator) -> Floats:
        small = random.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        large = Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        return np.asarray(large, np.float64)

    return draw


def _stripes(random: np.random.Generator) -> Floats:
    angle = random.uniform(0, np.pi)
    wave = (X * np.cos(angle) + Y * np.sin(angle)) * random.uniform(10, 120)
    return _mixed(random, (np.sin(wave) > 0).astype(float))


def _board(random: np.random.Generator) -> Floats:
    cells = int(random.integers(4, 20))
    return _mixed(random, ((X * cells).astype(int) + (Y * cells).astype(int)) % 2.0)


def _clouds(random: np.random.Generator) -> Floats:
    """Noise with the spectrum of natural images, or near it."""
    frequencies = np.fft.fftfreq(SIDE)
    radius = np.hypot(*np.meshgrid(frequencies, frequencies)) + 1 / SIDE
    spectrum = np.fft.fft2(random.normal(size=(SIDE, SIDE, 3)), axes=(0, 1))
    spectrum /= radius[..., None] ** random.uniform(0.7, 1.6)
    field = np.fft.ifft2(spectrum, axes=(0, 1)).real
    clouds: Floats = (field - field.mean()) / field.std() * 50 + 128
    return clouds


X, Y = np.meshgrid(np.linspace(0, 1, SIDE), np.linspace(0, 1, SIDE))
KINDS: dict[str, Draw] = {
    "uniform": lambda random: random.uniform(0, 255, (SIDE, SIDE, 3)),
    "grey": lambda random: random.uniform(0, 255, (SIDE, SIDE, 1)),
    "normal": lambda random: random.normal(128, random.uniform(10, 60), (SIDE, SIDE, 3)),
    "linear": lambda random: _mixed(random, X),
    "radial": lambda random: _mixed(random, np.hypot(X - 0.5, Y - 0.5) * 1.4),
    "plain": lambda random: _two(random)[0],
    "blobs": _blobs(4),
    "spots": _blobs(30),
    "stripes": _stripes,
    "board": _board,
    "clouds": _clouds,
}
