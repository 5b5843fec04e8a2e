"""Repositories to copy, and a web server that has one."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundle.format.repository import list_bundles
from service.remote.stores import CHUNK_BYTES, INDEX_FILE
from tests.service.models.disturb import edit_manifest
from tests.service.remote.copies import Copy
from tests.service.remote.web import Web, serve

# Larger than two requests.
LARGE = "large.bin"
LARGE_BYTES = 2 * CHUNK_BYTES + 1_000_000


class Origin:
    """A model repository that is to be copied."""

    def __init__(self, root: Path, bundle: Path) -> None:
        self.root = root
        self._bundle = bundle

    def put(self, version: int, *, large: bytes | None = None) -> Path:
        """A version appears, or another bundle in its place."""
        target = self.root / "tiny-torch" / str(version)
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self._bundle, target)

        def change(manifest: dict[str, object]) -> None:
            manifest["version"] = version
            files = manifest["files"]
            assert isinstance(files, dict)
            if large is not None:
                (target / LARGE).write_bytes(large)
                files[LARGE] = {"size": len(large), "sha256": hashlib.sha256(large).hexdigest()}

        edit_manifest(target, change)
        self.index()
        return target

    def remove(self, version: int) -> None:
        """A version disappears."""
        shutil.rmtree(self.root / "tiny-torch" / str(version))
        self.index()

    def index(self) -> None:
        """Write the index that web servers need."""
        found = [{"name": each.name, "version": each.version} for each in list_bundles(self.root)]
        (self.root / INDEX_FILE).write_text(json.dumps(found))


@pytest.fixture
def origin(quick_root: Path, tmp_path: Path) -> Origin:
    root = tmp_path / "origin"
    root.mkdir()
    return Origin(root, quick_root / "tiny-torch" / "1")


@pytest.fixture
def web(origin: Origin) -> Iterator[Web]:
    with serve(origin.root) as found:
        yield found


@pytest.fixture(scope="session")
def large() -> bytes:
    """Bytes that are nowhere the same."""
    return b"".join(number.to_bytes(4, "big") for number in range(LARGE_BYTES // 4))


@pytest.fixture
def copy(web: Web, tmp_path: Path) -> Copy:
    return Copy(web.url, tmp_path / "copy")
