"""Each example of docs/clients.md prints what its comments say, against the shipped models."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.readme import ROOT, shipped_models
from tests.service.conftest import free_port

PAGE = ROOT / "docs/clients.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
SECTIONS = re.findall(r"^## (.*)$", PAGE.read_text(), re.MULTILINE)
ADDRESS, GRPC_ADDRESS = "127.0.0.1:8000", "127.0.0.1:8001"


@pytest.fixture(scope="module")
def addresses() -> Iterator[tuple[str, str]]:
    """Where the shipped models are served over HTTP and over gRPC."""
    with pytest.MonkeyPatch.context() as patch:
        port = str(free_port())
        patch.setenv("SERVICE_GRPC_PORT", port)
        with shipped_models() as found:
            assert found is not None
            yield found.removeprefix("http://"), f"127.0.0.1:{port}"


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_prints_what_its_comments_say(
    addresses: tuple[str, str],
    number: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    example = EXAMPLES[number]
    monkeypatch.chdir(ROOT)

    running = example.replace(ADDRESS, addresses[0]).replace(GRPC_ADDRESS, addresses[1])
    exec(running, {})  # noqa: S102

    printed = capsys.readouterr().out.splitlines()
    assert printed == re.findall(r"^ *print\(.*\)  # (.*)$", example, re.MULTILINE)
    assert printed


def test_the_table_leads_to_every_section() -> None:
    linked = re.findall(r"^\| \[[^]]+\]\(#([\w-]+)\)", PAGE.read_text(), re.MULTILINE)

    assert linked == [section.lower().replace(" ", "-") for section in SECTIONS]
