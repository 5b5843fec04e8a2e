"""The sample photos that ship with the page; their origin and licences are in README.md."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Sample:
    """One sample: its name in links, its file, and what it shows in words."""

    name: str
    file: str
    alt: str

    def read(self) -> bytes:
        """Return the encoded file."""
        return (FOLDER / self.file).read_bytes()


SAMPLES = (
    Sample("cat", "tabby-cat.jpg", "The face of a tabby cat"),
    Sample("coffee", "coffee.jpg", "A cup of coffee on a saucer with a spoon"),
    Sample("palace", "palace.jpg", "A pavilion with many roofs above a lake"),
    Sample("rocket", "rocket.jpg", "A rocket on its launch pad at dusk"),
    Sample("flower", "flower.jpg", "An orange dahlia in front of dark leaves"),
    # None of the classes of the models that ship.
    Sample("galaxies", "galaxies.jpg", "Hundreds of small galaxies on black sky"),
)
