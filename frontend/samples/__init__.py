"""The sample images that ship with the page; their origin is in README.md."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Sample:
    """One sample: its name on the page, its file, and what it shows in words."""

    name: str
    file: str
    alt: str

    def read(self) -> bytes:
        """Return the encoded file."""
        return (FOLDER / self.file).read_bytes()


SAMPLES = (
    Sample("Coffee", "coffee.jpg", "Photo of a cup of coffee on a saucer with a spoon"),
    Sample("Tabby cat", "tabby-cat.jpg", "Photo of the face of a tabby cat"),
    Sample("Airplane", "airplane.jpg", "Drawing of a white airliner climbing in a blue sky"),
    Sample("Ship", "ship.jpg", "Drawing of a container ship on the open sea"),
    Sample("Truck", "truck.png", "Drawing of a lorry with a white box body on a road"),
    Sample("Car", "automobile.webp", "Drawing of a red car on a grey road"),
    Sample("Cat", "cat.jpg", "Drawing of the face of a ginger cat"),
    Sample("Frog", "frog.jpg", "Drawing of a green frog sitting on brown ground"),
)
