"""The model repository of a soak run, in which versions appear."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from benchmarks.models import REPOSITORY
from bundle.format.manifest import MANIFEST_FILE
from bundle.format.repository import list_bundles

# The two networks behind the versions of one model: even ones and odd ones.
NETWORKS = ("cifar10-resnet20-pytorch", "cifar10-resnet20-keras")
SOAKED, OTHER = "soaked", "other"


class Repository:
    """The model repository of the run, in which versions appear."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.newest = 0
        self.broken: set[int] = set()
        self._copy(NETWORKS[0], OTHER, 1)
        (root / "default").write_text(SOAKED)

    def add(self, *, broken: bool = False) -> int:
        """Add the next version, of the other network, and remove what is superseded for long."""
        self.newest += 1
        if broken:
            self.broken.add(self.newest)
        self._copy(NETWORKS[self.newest % 2], SOAKED, self.newest, broken=broken)
        for bundle in list_bundles(self.root):
            if bundle.name == SOAKED and bundle.version < self.newest - 4:
                shutil.rmtree(bundle.path)
        return self.newest

    def _copy(self, network: str, name: str, version: int, *, broken: bool = False) -> None:
        source = max(b for b in list_bundles(REPOSITORY) if b.name == network).path
        made = Path(shutil.copytree(source, self.root / ".copy"))
        manifest = json.loads((made / MANIFEST_FILE).read_text())
        (made / MANIFEST_FILE).write_text(json.dumps(manifest | {"name": name, "version": version}))
        if broken:
            file = made / next(iter(manifest["files"]))
            file.write_bytes(file.read_bytes()[:-1])
        (self.root / name).mkdir(exist_ok=True)
        made.rename(self.root / name / str(version))
