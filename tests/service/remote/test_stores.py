"""What stores list, and what is made of it; over a web server and fsspec's store in memory."""

from __future__ import annotations

import json
import sys

import fsspec
import pytest

from service.remote.__main__ import clean
from service.remote.stores import MAX_VERSIONS, Store, StoreError
from tests.service.remote.conftest import Origin
from tests.service.remote.web import Web


def store(address: str) -> Store:
    return Store(address, pause=lambda _: None)


@pytest.mark.parametrize(
    "index",
    [
        "{",
        "{}",
        '"flowers"',
        '["flowers"]',
        '[{"name": "flowers"}]',
        '[{"name": "flowers", "version": "1"}]',
        '[{"name": "flowers", "version": true}]',
        "[" * 100_000,
    ],
    ids=["cut", "object", "text", "names", "no-version", "text-version", "bool", "nested"],
)
def test_an_index_that_is_none_is_said(origin: Origin, web: Web, index: str) -> None:
    (origin.root / "index.json").write_text(index)

    if index == "{}":
        assert store(web.url).versions() == {}
        return
    with pytest.raises(StoreError, match=r"index\.json can't be used"):
        store(web.url).versions()


def test_names_that_are_none_are_left_out(origin: Origin, web: Web) -> None:
    names = ["flowers", "../up", ".hidden", "Upper", "a/b", ""]
    items = [{"name": name, "version": version} for name in names for version in (1, 0, -1)]
    (origin.root / "index.json").write_text(json.dumps(items))

    assert store(web.url).versions() == {"flowers": [1]}


def test_too_many_versions_are_refused(origin: Origin, web: Web) -> None:
    items = [{"name": "a", "version": n} for n in range(1, MAX_VERSIONS + 2)]
    (origin.root / "index.json").write_text(json.dumps(items))

    with pytest.raises(StoreError, match="more than 10000 versions"):
        store(web.url).versions()


def test_files_beyond_their_limit_are_refused_and_an_empty_one_is_empty(
    origin: Origin, web: Web
) -> None:
    (origin.root / "large").write_bytes(bytes(101))
    (origin.root / "empty").touch()
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.put(f"{origin.root}/", "/bucket/", recursive=True)
    memory = store("memory://bucket")

    for each, entries in ((store(web.url), {}), (memory, memory.entries("") or {})):
        with pytest.raises(StoreError, match="larger than 100 bytes"):
            each.read("large", 100, entries.get("large"))
        assert each.read("large", 101, entries.get("large")) == bytes(101)
        assert each.read("empty", 100, entries.get("empty")) == b""
        with pytest.raises(FileNotFoundError):
            each.read("absent", 100)


def test_names_of_files_are_no_queries(origin: Origin, web: Web) -> None:
    for name in ("50% off?.txt", "a#b", "ä b"):
        (origin.root / name).write_text(name)

        assert store(web.url).read(name, 100).decode() == name


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    # No test opens this store, which fsspec would remember.
    monkeypatch.setitem(sys.modules, "adlfs", None)

    with pytest.raises(StoreError, match="the extra `remote`"):
        store("az://models/prod")


def test_errors_are_shown_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-long-secret")
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    text = "GET https://user:pass@host/file?X-Amz-Signature=abc 'a-long-secret' hf_another"

    shown = clean(text)

    assert shown == "GET https://…@host/file?… '[AWS_SECRET_ACCESS_KEY]' [HF_TOKEN]"
