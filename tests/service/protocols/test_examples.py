"""Each example of docs/clients.md prints what its comments say, against the shipped models."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.readme import ROOT, shipped_models

PAGE = ROOT / "docs/clients.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
SECTIONS = re.findall(r"^## (.*)$", PAGE.read_text(), re.MULTILINE)
ADDRESS = "127.0.0.1:8000"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with shipped_models() as found:
        assert found is not None
        yield found


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_prints_what_its_comments_say(
    url: str, number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = EXAMPLES[number]
    monkeypatch.chdir(ROOT)

    exec(example.replace(ADDRESS, url.removeprefix("http://")), {})  # noqa: S102

    printed = capsys.readouterr().out.splitlines()
    assert printed == re.findall(r"^print\(.*\)  # (.*)$", example, re.MULTILINE)
    assert printed


def test_the_table_leads_to_every_section() -> None:
    linked = re.findall(r"^\| \[[^]]+\]\(#([\w-]+)\)", PAGE.read_text(), re.MULTILINE)

    assert linked == [section.lower().replace(" ", "-") for section in SECTIONS]
