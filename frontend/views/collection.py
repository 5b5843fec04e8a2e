"""Many pictures: what is kept of each, and what can be said about all. Pure, without Streamlit.

Of a picture only a thumbnail is kept, so that a thousand of them take a few megabytes.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO, StringIO
from typing import Any

import numpy as np
from PIL import Image

SAME_BITS = 6  # of 64; a smaller, recompressed or slightly brighter copy differs in fewer
Z_95 = 1.959964
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # a cell that begins so is one in a spreadsheet


@dataclass(frozen=True)
class Picture:
    """One picture and its answer.

    Attributes:
        path: as the visitor's folder has it.
        thumbnail: a small JPEG; None where none could be drawn.
        label: the best one; empty if the picture was refused.
        score: of that label, 0 to 1.
        uncertain: whether the service is not sure; None if it does not say.
        refused: why there is no answer; empty if there is one.
        other: the best label of the second model; empty without one.
        hash: 64 bits that near-duplicates share, or None.
        truth: the label that the folder's name says; empty if it is none of the model's.
        copies: number of the group of near-duplicates, from 1; 0: it has none.
    """

    path: str
    thumbnail: bytes | None = None
    label: str = ""
    score: float = 0.0
    uncertain: bool | None = None
    refused: str = ""
    other: str = ""
    hash: int | None = None
    truth: str = ""
    copies: int = 0

    @property
    def wrong(self) -> bool:
        """The folder's name says something else."""
        return bool(self.truth) and self.label != self.truth

    @property
    def disagree(self) -> bool:
        """The second model has another answer."""
        return bool(self.other) and self.other != self.label


def difference_hash(thumbnail: bytes) -> int:
    """64 bits: whether each of 8 by 8 places is brighter than its right neighbour."""
    with Image.open(BytesIO(thumbnail)) as opened:
        small = opened.convert("L").resize((9, 8), Image.Resampling.BOX)
    grey = np.asarray(small, np.int16)
    bits = np.packbits(grey[:, :-1] > grey[:, 1:])
    return int.from_bytes(bits.tobytes(), "big")


def grouped(pictures: Sequence[Picture]) -> list[Picture]:
    """The pictures with `copies` set: near-duplicates have the same number."""
    places = [index for index, each in enumerate(pictures) if each.hash is not None]
    bits = np.array([[each.hash or 0] for each in (pictures[i] for i in places)], np.uint64)
    group = list(range(len(places)))
    for index in range(len(places)):
        later = np.bitwise_count(bits[index + 1 :, 0] ^ bits[index, 0]) <= SAME_BITS
        for other in np.flatnonzero(later) + index + 1:
            old, new = group[other], group[index]
            group = [new if each == old else each for each in group] if old != new else group
    sizes = Counter(group)
    numbers: dict[int, int] = {}
    found = list(pictures)
    for place, root in zip(places, group, strict=True):
        if sizes[root] > 1:
            number = numbers.setdefault(root, len(numbers) + 1)
            found[place] = replace(found[place], copies=number)
        else:
            found[place] = replace(found[place], copies=0)
    return found


def truth(path: str, labels: Iterable[str]) -> str:
    """The label that the picture's folder is named after; empty if none is.

    Case, underscores and a wordnet id in front do not count, and one of several synonyms is enough.
    """
    name = _plain(re.sub(r"^n\d{8}[_ -]", "", folder(path)))
    if not name:
        return ""
    for label in labels:
        if name in {_plain(label), *(_plain(part) for part in label.split(","))}:
            return label
    return ""


def folder(path: str) -> str:
    """Name of the folder that the picture is in; empty if none is known."""
    return "/".join(path.replace("\\", "/").split("/")[-2:-1])


def other_folders(pictures: Iterable[Picture]) -> list[str]:
    """The folders of pictures that were not taken as labels, in alphabetical order."""
    found = {folder(each.path) for each in pictures if not each.truth and not each.refused}
    return sorted(found - {""})


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", " ", text).strip().casefold()


@dataclass(frozen=True)
class Accuracy:
    """How many of the pictures whose folder names a label are right, with a Wilson interval."""

    right: int
    samples: int
    low: float
    high: float


def accuracy(pictures: Iterable[Picture]) -> Accuracy | None:
    """None if no folder's name is a label."""
    known = [each for each in pictures if each.truth and not each.refused]
    if not known:
        return None
    n, right = len(known), sum(not each.wrong for each in known)
    share = right / n
    centre = share + Z_95**2 / (2 * n)
    spread = Z_95 * math.sqrt(share * (1 - share) / n + Z_95**2 / (4 * n * n))
    scale = 1 + Z_95**2 / n
    return Accuracy(
        right, n, max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
    )


def confusions(pictures: Iterable[Picture]) -> list[tuple[str, str, int]]:
    """True label, answer and how often, the most frequent first."""
    counts = Counter(
        (each.truth, each.label) for each in pictures if each.wrong and not each.refused
    )
    return [(true, said, count) for (true, said), count in counts.most_common()]


def as_rows(pictures: Iterable[Picture]) -> list[dict[str, Any]]:
    """One dict for each picture, as both downloads have it."""
    return [
        {
            "path": each.path,
            "label": each.label,
            "score": round(each.score, 6) if each.label else None,
            "uncertain": each.uncertain,
            "other_label": each.other or None,
            "true_label": each.truth or None,
            "near_duplicates": each.copies or None,
            "refused": each.refused or None,
        }
        for each in pictures
    ]


def as_csv(pictures: Iterable[Picture]) -> str:
    """The rows with a header; text that a spreadsheet would take for a formula has a ' in front."""
    rows = as_rows(pictures)
    out = StringIO()
    writer = csv.DictWriter(out, list(rows[0]) if rows else ["path"])
    writer.writeheader()
    writer.writerows({name: _no_formula(value) for name, value in row.items()} for row in rows)
    return out.getvalue()


def _no_formula(value: Any) -> Any:
    # A spreadsheet would run a file's name that looks like one (OWASP: CSV Injection).
    risky = isinstance(value, str) and value.startswith(FORMULA)
    return f"'{value}" if risky else value


def as_json(pictures: Iterable[Picture]) -> str:
    """The rows as a JSON list."""
    return json.dumps(as_rows(pictures), ensure_ascii=False, indent=1)
