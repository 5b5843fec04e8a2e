"""Looks at stores in this process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bundle.format.manifest import read_manifest
from bundle.format.repository import list_bundles, verify_files
from service.remote.copying import Copying, Steps
from service.remote.folder import Folder
from service.remote.stores import PAUSES_S, Store

TRIES = len(PAUSES_S) + 1


def done(steps: Steps) -> dict[str, Any]:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: dict[str, Any] = end.value
            return result


class Copy:
    """The copy of what lies at an address."""

    def __init__(self, address: str, root: Path) -> None:
        self.address = address
        self.root = root
        self.now = 1_000_000.0

    def look(self, *wanted: int, damaged: Mapping[str, list[int]] | None = None) -> dict[str, Any]:
        """Copy these versions, or all; what was found, and whether anything changed."""
        store = Store(self.address, pause=lambda _: None)
        copying = Copying(store, Folder(self.root), lambda: self.now)
        found = done(copying.find())["versions"]
        needed = {
            name: [each for each in versions if not wanted or each in wanted]
            for name, versions in found.items()
        }
        return {**done(copying.fetch(needed, damaged or {})), **done(copying.switch(needed))}

    @property
    def versions(self) -> list[int]:
        """Those that the service would find, each of which is whole."""
        found = list_bundles(self.root)
        for each in found:
            verify_files(each.path, read_manifest(each.path))
        return [each.version for each in found]


def nothing_wrong(*, changed: bool) -> dict[str, Any]:
    return {"unusable": {}, "errors": [], "changed": changed}
