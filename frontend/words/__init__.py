"""The page's sentences in the visitor's language, and numbers as that language writes them.

The English sentence in the code is the key; `LANGUAGE.po` in this folder has its translation, in
the format of GNU gettext, which translators' programs read. Without one it stays English.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
LANGUAGES = {"en": "English", "de": "Deutsch"}


@dataclass(frozen=True)
class Words:
    """Translates sentences; calling it with an English sentence gives the visitor's.

    Attributes:
        language: its code, `en` or `de`.
        sentences: English sentence -> translations; two for one with a plural.
    """

    language: str = "en"
    sentences: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __call__(self, sentence: str, /, **values: object) -> str:
        """Translate `sentence`, then fill `{name}` with `values`."""
        return self.sentences.get(sentence, (sentence,))[0].format(**values)

    def count(self, one: str, many: str, n: int, **values: object) -> str:
        """As a call, with `one` for n = 1 and `many` otherwise; `{n}` is the number."""
        forms = self.sentences.get(one, (one, many))
        return forms[0 if n == 1 else -1].format(n=self.number(n), **values)

    def match(self, sentence: str, text: str) -> str | None:
        """The translation of `text` if it is `sentence` with English numbers as values; or None."""
        number = r"(?P<\1>\\d+(?:[,.]\\d+)*)"
        found = re.fullmatch(re.sub(r"\\{(\w+)\\}", number, re.escape(sentence)), text)
        if found is None:
            return None
        values = {name: value.replace(",", "") for name, value in found.groupdict().items()}
        digits = {name: len(value.partition(".")[2]) for name, value in values.items()}
        return self(
            sentence,
            **{name: self.number(float(value), digits[name]) for name, value in values.items()},
        )

    def number(self, value: float, digits: int = 0) -> str:
        """A number with separators: `1,234.5`, in German `1.234,5`."""
        text = f"{value:,.{digits}f}"
        return text.translate(str.maketrans(",.", ".,")) if self.language == "de" else text

    def percent(self, score: float, digits: int = 1) -> str:
        """A score in [0, 1]; never rounded to 0 % or 100 %, which a model does not claim."""
        if 0 < score < 0.001:
            return f"< {self.number(0.1, 1)} %"
        if 0.999 < score < 1:
            return f"> {self.number(99.9, 1)} %"
        return f"{self.number(score * 100, digits)} %"

    def milliseconds(self, value: float) -> str:
        """A time in milliseconds with the digits that matter."""
        if value >= 1000:
            return f"{self.number(value / 1000, 2)} s"
        return f"{self.number(value, 1 if value < 100 else 0)} ms"

    def file_size(self, count: int) -> str:
        """A number of bytes; kB and MB are powers of ten, as in the service's limits."""
        if count < 1000:
            return f"{count} B"
        if count < 1_000_000:
            return f"{self.number(count / 1000)} kB"
        return f"{self.number(count / 1_000_000, 0 if count % 1_000_000 == 0 else 1)} MB"

    def several(self, items: list[str]) -> str:
        """`a, b and c`."""
        if len(items) < 2:
            return "".join(items)
        return self("{first} and {last}", first=", ".join(items[:-1]), last=items[-1])


ENGLISH = Words()


@cache
def words(language: str) -> Words:
    """The sentences of `language`, such as `de` or `de-AT`; English if there is no catalogue."""
    code = language[:2].lower()
    path = FOLDER / f"{code}.po"
    if code not in LANGUAGES or not path.exists():
        return ENGLISH
    return Words(code, dict(entries(path.read_text(encoding="utf-8"))))


def entries(catalogue: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The sentences of a catalogue with their translations, the header left out."""
    for block in catalogue.split("\n\n"):
        parts: list[list[str]] = []
        for line in block.splitlines():
            if line.startswith("msg"):
                parts.append([line.split(" ", 1)[0], _unquoted(line.split(" ", 1)[1])])
            elif line.startswith('"') and parts:
                parts[-1][1] += _unquoted(line)
        translated = tuple(text for name, text in parts if name.startswith("msgstr"))
        if parts and parts[0][1] and all(translated):
            yield parts[0][1], translated


def _unquoted(text: str) -> str:
    # Strings of a catalogue are those of C, of which Python reads every escape in use.
    return str(ast.literal_eval(text.strip()))
