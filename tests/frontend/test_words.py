"""The catalogues against the sentences in the code."""

from __future__ import annotations

import ast
import string
from pathlib import Path

import pytest

from frontend.samples import SAMPLES
from frontend.words import ENGLISH, FOLDER, LANGUAGES, entries, words
from tests.sources import files

CATALOGUES = sorted(FOLDER.glob("*.po"))
TRANSLATORS = ("words", "language", "self")  # how the code names a `Words`


def sentences() -> set[str]:
    """Every sentence that the page asks a catalogue for."""
    found = {sample.alt for sample in SAMPLES}
    for path in files("frontend"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and asked_of(node.func) in TRANSLATORS:
                found |= {literal(node.args[0])}
    return found - {""}


def asked_of(function: ast.expr) -> str:
    """The name of the `Words` that is called, itself or by a method that translates."""
    if isinstance(function, ast.Attribute) and function.attr in ("count", "match"):
        function = function.value
    return name(function)


def name(node: ast.expr) -> str:
    """`words` of `words` and of `visit.words`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def literal(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def fields(text: str) -> set[str]:
    return {field for _, field, _, _ in string.Formatter().parse(text) if field}


def translations(path: Path) -> dict[str, tuple[str, ...]]:
    return dict(entries(path.read_text(encoding="utf-8")))


def test_each_language_but_english_has_a_catalogue() -> None:
    assert {path.stem for path in CATALOGUES} == set(LANGUAGES) - {"en"}


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.stem)
def test_a_catalogue_has_every_sentence_of_the_code_and_no_other(path: Path) -> None:
    found = set(translations(path))

    assert sorted(sentences() - found) == []
    assert sorted(found - sentences()) == []


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.stem)
def test_a_translation_fills_the_same_places(path: Path) -> None:
    wrong = {
        english: translated
        for english, forms in translations(path).items()
        for translated in forms
        if fields(translated) != fields(english) or english.count("**") != translated.count("**")
    }

    assert wrong == {}


def test_german_writes_numbers_its_own_way() -> None:
    german = words("de-AT")

    assert german.number(1234.5, 1) == "1.234,5"
    assert german.percent(0.925) == "92,5 %"
    assert german.count("{n} other", "{n} others", 1) == "1 weitere"
    assert german.count("{n} other", "{n} others", 995) == "995 weitere"


def test_an_unknown_language_and_an_unknown_sentence_stay_english() -> None:
    assert words("fr") is ENGLISH
    assert words("../de") is ENGLISH
    assert words("de")("Nobody has translated {this}.", this="it") == "Nobody has translated it."


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (0.0, "0.0 %"),
        (0.0004, "< 0.1 %"),
        (0.001, "0.1 %"),
        (0.5, "50.0 %"),
        (0.99951, "> 99.9 %"),
        (1.0, "100.0 %"),
    ],
)
def test_percentages_never_claim_more_than_the_score(score: float, text: str) -> None:
    assert ENGLISH.percent(score) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.04, "0.0 ms"), (7.44, "7.4 ms"), (123.4, "123 ms"), (2345.0, "2.35 s")]
)
def test_times_have_the_digits_that_matter(value: float, text: str) -> None:
    assert ENGLISH.milliseconds(value) == text


@pytest.mark.parametrize(
    ("items", "text"), [([], ""), (["a"], "a"), (["a", "b", "c"], "a, b and c")]
)
def test_several_things_are_listed(items: list[str], text: str) -> None:
    assert ENGLISH.several(items) == text
