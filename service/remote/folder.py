"""The folder of a copy, in which versions appear, change and disappear as a whole.

    flowers/3               a link to ../.remote/bundles/KEY: replacing it is one step
    default, serving.toml   as they lie elsewhere
    .remote/bundles/KEY/    complete bundles; the key is a digest of their manifest and signature
    .remote/partial/KEY/    a bundle that is being copied; what is there is not copied again
    .remote/seen.json       what was found elsewhere at the last look
    .remote/lock            held by the service that copies

Those who read a repository pass over hidden folders.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bundle.errors import BundleError
from bundle.files import replace_file
from bundle.format.manifest import MANIFEST_FILE, FileRecord, parse_manifest
from bundle.format.repository import SIGNATURE_FILE, file_digest, is_bundle_path, verify_files

HIDDEN = ".remote"
SEEN_FILE = "seen.json"


class Folder:
    """A copy, on the disk of this machine.

    Args:
        root: it is made if it does not exist, for this user alone.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        hidden = root / HIDDEN
        self._bundles, self._partial = hidden / "bundles", hidden / "partial"
        self._seen = hidden / SEEN_FILE
        for folder in (root, hidden, self._bundles, self._partial):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[bool]:
        """Hold the lock; False: another service holds it, and copies for both."""
        with (self.root / HIDDEN / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def seen(self) -> dict[str, Any]:
        """What was kept by `keep_seen`; empty if it can't be read."""
        try:
            found = json.loads(self._seen.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def keep_seen(self, seen: Mapping[str, Any]) -> None:
        """Keep what was found, and by the time of the file when."""
        replace_file(self._seen, json.dumps(seen).encode())

    def put(self, name: str, data: bytes | None) -> bool:
        """Write a file right in the folder, or delete it; whether that changed anything."""
        path = self.root / name
        before = path.read_bytes() if path.is_file() else None
        if data == before:
            return False
        if data is None:
            path.unlink()
        else:
            replace_file(path, data)
        return True

    def versions(self) -> dict[tuple[str, str], str]:
        """The key of each version that is complete here."""
        found = {}
        for link in self.root.glob("*/*"):
            if link.is_symlink() and is_bundle_path(link.parent.name, link.name):
                found[link.parent.name, link.name] = link.readlink().name
        return found

    def bundle(self, key: str) -> Path:
        """Where the complete bundle with this key lies."""
        return self._bundles / key

    def begin(self, key: str) -> Path:
        """The folder for a bundle that is being copied, as an interrupted copy has left it."""
        folder = self._partial / key
        folder.mkdir(exist_ok=True)
        return folder

    def finish(self, key: str, manifest: bytes, signature: bytes | None) -> None:
        """Make a bundle whose listed files are all there complete."""
        folder = self._partial / key
        if signature is not None:
            replace_file(folder / SIGNATURE_FILE, signature)
        replace_file(folder / MANIFEST_FILE, manifest)
        if self.bundle(key).exists():  # one that is damaged
            aside = self._partial / f"{key}.damaged"
            shutil.rmtree(aside, ignore_errors=True)
            self.bundle(key).rename(aside)
        folder.rename(self.bundle(key))

    def publish(self, planned: Mapping[tuple[str, str], str]) -> bool:
        """Let bundles take the places of versions; whether that changed anything.

        Raises:
            OSError: the folder can't be written to, or what lies in the place is no link.
        """
        before = self.versions()
        new = {place: key for place, key in planned.items() if before.get(place) != key}
        for (name, version), key in new.items():
            (self.root / name).mkdir(exist_ok=True)
            link = self._partial / "link"
            link.unlink(missing_ok=True)
            link.symlink_to(f"../{HIDDEN}/bundles/{key}")
            link.replace(self.root / name / version)
        return bool(new)

    def remove(self, places: Iterable[tuple[str, str]]) -> bool:
        """Remove versions; whether there were any."""
        removed = False
        for name, version in places:
            (self.root / name / version).unlink()
            with contextlib.suppress(OSError):  # it has others
                (self.root / name).rmdir()
            removed = True
        return removed

    def tidy(self, partial: Iterable[str]) -> None:
        """Delete bundles that are no version, and what was copied of others than `partial`."""
        used, kept = set(self.versions().values()), set(partial)
        for folder, names in ((self._bundles, used), (self._partial, kept)):
            for entry in folder.iterdir():
                if entry.name not in names:
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def is_whole(path: Path, record: FileRecord) -> bool:
    """Whether a file is here with the size and the digest that its manifest lists."""
    try:
        if path.stat().st_size != record.size:
            return False
        return file_digest(path) == (record.size, record.sha256)
    except OSError:
        return False


def is_sound(bundle: Path) -> bool:
    """Whether the files of a bundle are those of its manifest, as read from the disk."""
    try:
        verify_files(bundle, parse_manifest((bundle / MANIFEST_FILE).read_bytes()))
    except (BundleError, OSError):
        return False
    return True


def reusable(bundle: Path, by_digest: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    """The files of a bundle with one of these digests, as its manifest has them."""
    try:
        manifest = parse_manifest((bundle / MANIFEST_FILE).read_bytes())
    except (BundleError, OSError):
        return
    for name, record in manifest.files.items():
        if record.sha256 in by_digest:
            yield record.sha256, bundle / name
