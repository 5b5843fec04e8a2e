"""Draw the sample images that ship with the page.

    python -m frontend.samples.make_samples

Simple scenes of our own, drawn with Pillow from the shapes below: no photographs, no third-party
work. They are saved in several formats and orientations, so that the page shows how each is read.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

from PIL import Image, ImageChops, ImageDraw, ImageFilter

SIDE = 384  # pixels of the finished image
SCALE = 3  # drawn larger and reduced, for soft edges
FOLDER = Path(__file__).parent

Colour = tuple[int, int, int]
Point = tuple[float, float]


class Scene:
    """A square canvas addressed in hundredths of its side, whatever its size in pixels."""

    def __init__(self, top: Colour, bottom: Colour, seed: int) -> None:
        self.random = Random(seed)  # noqa: S311 - grain, not secrets
        self.side = SIDE * SCALE
        ramp = Image.linear_gradient("L").resize((self.side, self.side))
        self.image = Image.composite(self._flat(bottom), self._flat(top), ramp)
        self.draw = ImageDraw.Draw(self.image)

    def _flat(self, colour: Colour) -> Image.Image:
        return Image.new("RGB", (self.side, self.side), colour)

    def _at(self, points: list[Point]) -> list[Point]:
        return [(x * self.side / 100, y * self.side / 100) for x, y in points]

    def band(self, y0: float, y1: float, top: Colour, bottom: Colour) -> None:
        """Fill from height `y0` to `y1` with a vertical gradient."""
        a, b = int(y0 * self.side / 100), int(y1 * self.side / 100)
        for row in range(a, b):
            t = (row - a) / max(1, b - a)
            colour = tuple(round(p + (q - p) * t) for p, q in zip(top, bottom, strict=True))
            self.draw.line([(0, row), (self.side, row)], fill=colour)

    def shape(self, points: list[Point], colour: Colour) -> None:
        self.draw.polygon(self._at(points), fill=colour)

    def oval(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        self.draw.ellipse(self._at([(x - rx, y - ry), (x + rx, y + ry)]), fill=colour)

    def box(
        self, x0: float, y0: float, x1: float, y1: float, colour: Colour, radius: float = 0
    ) -> None:
        self.draw.rounded_rectangle(
            self._at([(x0, y0), (x1, y1)]), radius * self.side / 100, fill=colour
        )

    def line(self, points: list[Point], colour: Colour, width: float) -> None:
        self.draw.line(
            self._at(points), fill=colour, width=round(width * self.side / 100), joint="curve"
        )

    def wheel(self, x: float, y: float, r: float) -> None:
        self.oval(x, y, r, r, (22, 22, 24))
        self.oval(x, y, r * 0.55, r * 0.55, (168, 170, 176))
        self.oval(x, y, r * 0.2, r * 0.2, (60, 62, 66))

    def blur(self, radius: float) -> None:
        """Blur everything drawn so far, as a background out of focus."""
        self.image = self.image.filter(ImageFilter.GaussianBlur(radius * self.side / 100))
        self.draw = ImageDraw.Draw(self.image)

    def finish(self) -> Image.Image:
        """Reduce, and add grain as of a camera."""
        small = self.image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        grain = Image.frombytes("L", (SIDE, SIDE), self.random.randbytes(SIDE * SIDE))
        grain = grain.filter(ImageFilter.GaussianBlur(1.2)).point(
            lambda value: (value - 128) * 0.35 + 128
        )
        return ImageChops.add(small, Image.merge("RGB", [grain] * 3), scale=1, offset=-128)


def airplane() -> Image.Image:
    """A white airliner, seen from the side, climbing in a blue sky."""
    scene = Scene((84, 148, 214), (190, 219, 242), seed=1)
    for x, y, r in [(12, 78, 9), (24, 81, 11), (37, 79, 8), (78, 88, 12), (90, 85, 9), (64, 91, 8)]:
        scene.oval(x, y, r * 1.6, r * 0.6, (238, 243, 248))
    scene.blur(1.2)
    white, shade, dark = (240, 242, 245), (176, 184, 196), (120, 130, 146)
    scene.shape([(47, 48), (66, 24), (72, 24), (63, 47)], shade)
    scene.shape([(14, 57), (9, 36), (17, 35), (28, 54)], (36, 84, 160))
    upper = [(10, 55), (26, 50), (60, 44), (80, 40), (90, 42)]
    scene.shape([*upper, (93, 46), (86, 51), (62, 57), (28, 63), (14, 61)], white)
    scene.shape(
        [(14, 61), (28, 63), (62, 57), (86, 51), (93, 46), (88, 47), (60, 53), (26, 59)], shade
    )
    for window in range(10):
        scene.oval(34 + window * 4.6, 52.4 - window * 0.98, 0.9, 1.1, (58, 74, 100))
    scene.shape([(83, 42.2), (88, 42.4), (89, 44.6), (83.5, 45)], (42, 54, 78))
    scene.shape([(42, 56), (58, 53), (47, 80), (39, 82)], dark)
    scene.shape([(13, 58), (24, 56), (12, 68), (6, 68)], dark)
    scene.oval(50, 66, 5.2, 2.6, (92, 100, 114))
    return scene.finish()


def automobile() -> Image.Image:
    """A red car from the side on a grey road."""
    scene = Scene((176, 205, 232), (226, 234, 238), seed=2)
    scene.band(44, 66, (92, 124, 78), (116, 140, 92))
    scene.band(66, 100, (118, 118, 120), (88, 88, 92))
    scene.blur(1.0)
    scene.oval(50, 80, 42, 4, (58, 58, 62))
    red, deep, glass = (196, 30, 34), (148, 18, 26), (46, 60, 76)
    front = [(8, 74), (8, 60), (14, 55), (27, 53), (38, 39)]
    scene.shape([*front, (64, 38), (77, 52), (89, 55), (94, 61), (93, 75)], red)
    scene.shape([(8, 74), (8, 66), (94, 66), (93, 75)], deep)
    scene.shape([(32, 53), (40, 42), (50, 41.5), (50, 53)], glass)
    scene.shape([(53, 53), (53, 41.5), (62.5, 41), (71.5, 52.5)], glass)
    scene.line([(51.5, 41), (51.5, 72)], deep, 0.7)
    scene.box(55, 57, 60, 58.4, (236, 190, 190), 0.6)
    scene.oval(91, 61, 2.2, 2.6, (250, 240, 200))
    scene.box(7.6, 60, 10.5, 64, (240, 120, 60), 0.8)
    for x in (25, 75):
        scene.oval(x, 75, 10.5, 10.5, (60, 8, 12))
        scene.wheel(x, 76, 9)
    return scene.finish()


def cat() -> Image.Image:
    """The face of a ginger cat against a dark green wall."""
    scene = Scene((72, 88, 84), (46, 56, 54), seed=3)
    fur, light, dark = (204, 142, 84), (240, 222, 200), (146, 92, 48)
    scene.oval(50, 112, 42, 38, fur)
    scene.oval(50, 108, 18, 24, light)
    for side in (-1, 1):
        scene.shape([(50 + side * 12, 26), (50 + side * 31, 6), (50 + side * 35, 46)], fur)
        scene.shape(
            [(50 + side * 18, 27), (50 + side * 28.5, 14), (50 + side * 31, 38)], (222, 158, 146)
        )
    scene.oval(50, 52, 35, 30, fur)
    for x, length in [(50, 14), (43, 11), (57, 11)]:
        scene.line([(x, 24), (50 + (x - 50) * 0.8, 24 + length)], dark, 2.4)
    for side in (-1, 1):
        for y in (50, 57, 64):
            scene.line([(50 + side * 33, y), (50 + side * 22, y + 1.5)], dark, 2)
        scene.oval(50 + side * 9, 66, 11, 9, light)
        scene.oval(50 + side * 15, 47, 8, 6.8, (52, 36, 24))
        scene.oval(50 + side * 15, 47, 7, 6, (196, 196, 74))
        scene.oval(50 + side * 15, 47, 2.2, 5.7, (14, 14, 12))
        scene.oval(50 + side * 15 + 1.8, 44.6, 1.1, 1.1, (255, 255, 255))
    scene.oval(50, 76, 8, 5, light)
    scene.shape([(45, 58), (55, 58), (50, 63.5)], (204, 112, 110))
    scene.line([(50, 63), (50, 68), (45, 71.5)], (96, 58, 40), 1)
    scene.line([(50, 68), (55, 71.5)], (96, 58, 40), 1)
    scene.blur(0.25)
    for side in (-1, 1):
        for dy in (-4, 0, 4):
            scene.line(
                [(50 + side * 13, 66 + dy * 0.4), (50 + side * 42, 64 + dy * 1.8)],
                (250, 246, 240),
                0.5,
            )
    return scene.finish()


def frog() -> Image.Image:
    """A green frog sitting on brown ground."""
    scene = Scene((122, 104, 72), (86, 70, 48), seed=4)
    for _ in range(240):
        x, y, r = (
            scene.random.uniform(0, 100),
            scene.random.uniform(0, 100),
            scene.random.uniform(1, 4),
        )
        tone = scene.random.randint(-26, 26)
        scene.oval(x, y, r * 1.5, r, (104 + tone, 88 + tone, 60 + tone))
    scene.blur(0.7)
    green, deep, pale = (104, 150, 52), (66, 104, 34), (196, 204, 132)
    scene.oval(50, 84, 42, 6, (48, 38, 26))
    for side in (-1, 1):
        scene.oval(50 + side * 27, 68, 15, 17, deep)
        scene.oval(50 + side * 34, 82, 14, 4, deep)
    scene.oval(50, 62, 27, 24, green)
    scene.oval(50, 71, 18, 14, pale)
    for side in (-1, 1):
        scene.line([(50 + side * 17, 64), (50 + side * 20, 82)], green, 7)
        for toe in (-5, 0, 5):
            scene.line([(50 + side * 20, 82), (50 + side * 20 + toe, 86.5)], green, 2.4)
    scene.oval(50, 44, 28, 17, green)
    scene.oval(50, 51, 23, 8, pale)
    scene.line([(25, 45), (36, 51), (50, 53), (64, 51), (75, 45)], (52, 74, 26), 1.3)
    for side in (-1, 1):
        scene.oval(50 + side * 17, 30, 9.5, 9, green)
        scene.oval(50 + side * 17, 29, 6.6, 6.6, (222, 186, 62))
        scene.oval(50 + side * 17, 29, 4.6, 3, (16, 16, 12))
        scene.oval(50 + side * 17 + 1.5, 27.4, 1, 1, (255, 255, 255))
        scene.oval(50 + side * 3, 41, 0.9, 0.7, (46, 66, 24))
    for _ in range(26):
        x, y = scene.random.uniform(28, 72), scene.random.uniform(36, 60)
        scene.oval(x, y * 0.9, 1.4, 1.1, (82, 124, 42))
    return scene.finish()


def ship() -> Image.Image:
    """A container ship on the open sea."""
    scene = Scene((150, 190, 226), (222, 232, 238), seed=5)
    scene.band(60, 100, (58, 108, 146), (22, 58, 92))
    scene.blur(0.6)
    for _ in range(150):
        x, y = scene.random.uniform(0, 100), scene.random.uniform(63, 99)
        scene.line([(x, y), (x + (y - 55) * 0.16, y)], (104, 150, 182), 0.35)
    scene.box(15, 36, 28, 58, (244, 244, 240), 0.5)
    scene.box(13, 34, 30, 38, (226, 228, 228), 0.5)
    scene.box(18, 24, 25, 35, (202, 60, 44))
    for row in range(3):
        scene.box(16.5, 41 + row * 5, 26.5, 43 + row * 5, (62, 84, 108))
    colours: list[Colour] = [(190, 74, 52), (60, 112, 160), (206, 162, 62), (90, 132, 88)]
    colours.append((168, 170, 174))
    for column in range(8):
        for level in range(3 - (column > 5)):
            x, y = 32 + column * 6.6, 53 - level * 5.4
            scene.box(x, y, x + 6.2, y + 5, colours[(column * 2 + level * 3) % 5])
    scene.shape([(7, 56), (95, 58), (89, 72), (13, 72)], (38, 46, 62))
    scene.shape([(11.4, 67.5), (91, 67.5), (89, 72), (13, 72)], (150, 44, 38))
    scene.line([(7, 57), (95, 58.6)], (214, 218, 222), 0.7)
    scene.shape([(4, 73), (30, 71), (98, 71.4), (92, 74.5), (20, 75)], (214, 230, 238))
    return scene.finish()


def truck() -> Image.Image:
    """A lorry with a white box body on a road."""
    scene = Scene((168, 200, 230), (222, 232, 238), seed=6)
    scene.band(58, 74, (124, 138, 88), (142, 150, 100))
    scene.band(74, 100, (112, 112, 114), (84, 84, 88))
    scene.blur(1.0)
    scene.oval(50, 85, 46, 4, (54, 54, 58))
    scene.box(6, 74, 92, 79, (48, 50, 56))
    scene.box(5, 27, 64, 75, (236, 238, 240), 0.6)
    scene.box(5, 68, 64, 75, (196, 200, 206))
    for x in range(12, 64, 7):
        scene.line([(x, 28), (x, 68)], (214, 218, 222), 0.4)
    blue, deep = (34, 88, 168), (22, 60, 120)
    scene.shape([(67, 78), (67, 38), (84, 38), (92, 56), (95, 60), (95, 78)], blue)
    scene.shape([(67, 78), (67, 68), (95, 68), (95, 78)], deep)
    scene.shape([(74, 42), (82.5, 42), (88.6, 56), (74, 56)], (42, 56, 74))
    scene.line([(71, 44), (71, 76)], deep, 0.6)
    scene.oval(93.4, 66, 1.8, 2.4, (252, 242, 204))
    for x in (18, 32, 82):
        scene.wheel(x, 80, 7.6)
    return scene.finish()


def _jpeg_on_its_side(image: Image.Image, path: Path) -> None:
    """Store the pixels rotated, with the EXIF orientation that a phone held upright writes."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(path, quality=88, exif=exif)


def main() -> None:
    """Write all samples to the folder of this file."""
    plain: dict[str, tuple[Callable[[], Image.Image], int]] = {
        "airplane.jpg": (airplane, 88),
        "automobile.webp": (automobile, 86),
        "frog.jpg": (frog, 86),
        "ship.jpg": (ship, 88),
    }
    for name, (draw, quality) in plain.items():
        draw().save(FOLDER / name, quality=quality)
    truck().quantize(96).save(FOLDER / "truck.png", optimize=True)
    _jpeg_on_its_side(cat(), FOLDER / "cat.jpg")


if __name__ == "__main__":
    main()
