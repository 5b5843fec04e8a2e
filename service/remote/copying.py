"""One look at a store: what is there, what of it is copied, and the switch to it.

Each step is a generator that yields whenever it has got something, so that its caller can tell a
slow store from one that has stopped.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bundle.errors import BundleError, IntegrityFailed
from bundle.format.manifest import MANIFEST_FILE, MAX_MANIFEST_BYTES, Manifest, parse_manifest
from bundle.format.repository import DEFAULT_FILE, SIGNATURE_FILE, check_folder
from service.remote.folder import Folder, is_sound, is_whole, reusable
from service.remote.stores import INDEX_FILE, Entry, OtherSize, Store, StoreError

SERVING_FILE = "serving.toml"
MAX_FILE_BYTES = 1_000_000
MAX_SIGNATURE_BYTES = 20_000_000
# Before a bundle whose files are not those of its manifest is fetched again, in seconds.
RETRY_S = 300
# That is left for others, in bytes.
SPARE_BYTES = 100 * 2**20

Place = tuple[str, str]
Steps = Generator[None, None, dict[str, Any]]


class Found(NamedTuple):
    """A manifest and a signature as they lie in the store."""

    manifest: bytes
    signature: bytes | None

    @property
    def key(self) -> str:
        """Changes with either, and so with any file of the bundle."""
        digest = hashlib.sha256(self.manifest)
        if self.signature is not None:
            digest.update(hashlib.sha256(self.signature).digest())
        return digest.hexdigest()[:32]


class Copying:
    """One look.

    Args:
        store: where the models lie.
        folder: their copy.
        now: seconds since 1970.
    """

    def __init__(self, store: Store, folder: Folder, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._folder = folder
        self._now = now
        self._seen = folder.seen()
        self._planned: dict[Place, str] = {}
        self._partial: set[str] = set()
        # Models of which a version could not be fetched: none of theirs is removed.
        self._failed: set[str] = set()
        self._tried: set[Place] = set()
        self._unusable: dict[str, dict[str, str]] = {}
        self._errors: list[str] = []
        self._available: dict[str, list[int]] = {}
        self._changed = False

    def find(self) -> Steps:
        """Find the versions, and copy the two files beside the models.

        Raises:
            StoreError: see `Store.versions`; or there is no version, or none is left.
        """
        try:
            self._available = self._store.versions()
        except FileNotFoundError as exc:
            raise StoreError(f"there is nothing at the address, or no {INDEX_FILE}") from exc
        if not self._available:
            raise StoreError(
                "there is no model any more"
                if self._folder.versions()
                else "there is no model: expected NAME/VERSION/manifest.json"
            )
        yield
        entries = self._store.entries("")
        for name in (DEFAULT_FILE, SERVING_FILE):
            self._changed |= self._folder.put(name, self._optional(name, MAX_FILE_BYTES, entries))
            yield
        return {"versions": self._available}

    def fetch(self, needed: Mapping[str, list[int]], damaged: Mapping[str, list[int]]) -> Steps:
        """Copy what is needed and not here, beside what is.

        Args:
            needed: numbers of versions, by model.
            damaged: those whose copies may have been changed on this machine.

        Returns `unusable`, why by model and version, and `errors`, what else went wrong; both of
        this look so far, in which nothing is tried twice.

        Raises:
            OSError: the folder can't be written to.
        """
        for name, versions in needed.items():
            for version in versions:
                place = (name, str(version))
                if place in self._tried:
                    continue
                self._tried.add(place)
                refused = None
                try:
                    yield from self._fetch(place, doubted=version in damaged.get(name, ()))
                except BundleError as exc:
                    refused = f"{exc.code}: {exc}"
                except FileNotFoundError as exc:
                    # The manifest comes last, and may not be there yet.
                    refused = f"incomplete: there is no {exc}"
                except StoreError as exc:
                    self._errors.append(f"{name}/{version}: {exc}")
                if refused is not None:
                    self._unusable.setdefault(name, {})[str(version)] = (
                        f"{name}/{version}: {refused}"
                    )
                if place not in self._planned:
                    self._failed.add(name)
        return {"unusable": self._unusable, "errors": self._errors}

    def switch(self, needed: Mapping[str, list[int]]) -> Steps:
        """Let what was copied take its places, and remove the rest; returns `changed`.

        Raises:
            OSError: the folder can't be written to.
        """
        changed = self._changed | self._folder.publish(self._planned)
        gone = [
            (name, version)
            for name, version in self._folder.versions()
            if int(version) not in needed.get(name, ())
            and not (name in self._failed and int(version) in self._available.get(name, ()))
        ]
        changed |= self._folder.remove(gone)
        self._folder.tidy(self._partial)
        there = {f"{name}/{number}" for name, all_ in self._available.items() for number in all_}
        self._folder.keep_seen({k: seen for k, seen in self._seen.items() if k in there})
        yield
        return {"changed": changed}

    def _fetch(self, place: Place, *, doubted: bool) -> Iterator[None]:
        label = "/".join(place)
        here = self._folder.versions().get(place)
        doubted = doubted and here is not None and not is_sound(self._folder.bundle(here))
        seen = self._seen.get(label, {})
        self._partial.add(str(seen.get("key")))
        entries = self._store.entries(label)
        yield
        fingerprint: list[str | None] | None = None
        if entries is not None:
            both = [entries.get(name) for name in (MANIFEST_FILE, SIGNATURE_FILE)]
            if both[0] is None:
                raise FileNotFoundError(MANIFEST_FILE)
            if all(entry is None or entry.fingerprint for entry in both):
                fingerprint = [None if entry is None else entry.fingerprint for entry in both]
        if fingerprint and fingerprint == seen.get("fingerprint"):
            if here is not None and here == seen.get("key") and not doubted:
                self._planned[place] = here
                return
            self._check_refused(seen, str(seen.get("key")))
        found = yield from self._read(label, entries)
        self._check_refused(seen, found.key)
        kept: dict[str, Any] = {"fingerprint": fingerprint, "key": found.key}
        self._seen[label] = kept
        if not (here == found.key and not doubted):
            manifest = parse_manifest(found.manifest)
            check_folder(Path(*place), manifest)
            if doubted or not self._folder.bundle(found.key).exists():
                self._partial.add(found.key)
                try:
                    yield from self._files(label, manifest, found, here)
                except IntegrityFailed as exc:
                    kept |= {"refused": str(exc), "at": self._now()}
                    raise
        self._planned[place] = found.key

    def _check_refused(self, seen: Mapping[str, Any], key: str) -> None:
        """Refuse what was refused a short while ago, without fetching it again."""
        if seen.get("key") == key and "refused" in seen and self._now() - seen["at"] < RETRY_S:
            raise IntegrityFailed(seen["refused"])

    def _read(
        self, label: str, entries: Mapping[str, Entry] | None
    ) -> Generator[None, None, Found]:
        entry = None if entries is None else entries[MANIFEST_FILE]
        try:
            manifest = self._store.read(f"{label}/{MANIFEST_FILE}", MAX_MANIFEST_BYTES, entry)
        except FileNotFoundError as exc:
            raise FileNotFoundError(MANIFEST_FILE) from exc
        yield
        signature = self._optional(f"{label}/{SIGNATURE_FILE}", MAX_SIGNATURE_BYTES, entries)
        yield
        return Found(manifest, signature)

    def _optional(self, path: str, limit: int, entries: Mapping[str, Entry] | None) -> bytes | None:
        name = path.rpartition("/")[2]
        if entries is not None and name not in entries:
            return None
        try:
            return self._store.read(path, limit, None if entries is None else entries[name])
        except FileNotFoundError:
            return None

    def _files(
        self, label: str, manifest: Manifest, found: Found, here: str | None
    ) -> Iterator[None]:
        """Copy all files of a bundle that are not here, and make it complete."""
        target = self._folder.begin(found.key)
        for name in manifest.files:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
        missing = []
        for name, record in manifest.files.items():
            if not is_whole(target / name, record):
                missing.append(name)
            yield
        reused = {}
        if here is not None:
            old = self._folder.bundle(here)
            by_digest = {manifest.files[name].sha256: name for name in missing}
            reused = dict(reusable(old, by_digest))
        for name in missing:
            record = manifest.files[name]
            if (source := reused.get(record.sha256)) and is_whole(source, record):
                (target / name).unlink(missing_ok=True)
                os.link(source, target / name)
        missing = [name for name in missing if not is_whole(target / name, manifest.files[name])]
        _check_space(target, sum(manifest.files[name].size for name in missing))
        for name in missing:
            yield from self._file(label, name, target / name, manifest)
        self._folder.finish(found.key, found.manifest, found.signature)
        self._partial.discard(found.key)

    def _file(self, label: str, name: str, path: Path, manifest: Manifest) -> Iterator[None]:
        """Copy one file, from where an interrupted copy of it ends."""
        record = manifest.files[name]
        start = path.stat().st_size if path.exists() else 0
        if start >= record.size:  # whole, and not what it should be
            start = 0
        try:
            with path.open("r+b" if start else "wb") as file:
                for offset, data in self._store.chunks(f"{label}/{name}", start, record.size):
                    file.seek(offset)
                    file.write(data)
                    file.flush()
                    yield
        except FileNotFoundError as exc:
            raise _other(name, "is not there") from exc
        except OtherSize as exc:
            path.unlink()
            raise _other(name, str(exc)) from exc
        if not is_whole(path, record):
            path.unlink()
            raise _other(name, "has another sha256")


def _other(name: str, what: str) -> IntegrityFailed:
    return IntegrityFailed(
        "The files are not those that the manifest lists; a bundle that is being replaced looks "
        f"like that for a while. Upload it again, the manifest last. Received: {name!r} {what}"
    )


def _check_space(folder: Path, size: int) -> None:
    """Check that so many bytes fit on the disk.

    Raises:
        StoreError: they don't.
    """
    free = shutil.disk_usage(folder).free
    if size + SPARE_BYTES > free:
        raise StoreError(
            f"its files don't fit into SERVICE_MODELS_CACHE. Expected {size} bytes and "
            f"{SPARE_BYTES} to spare. Received: {free} free"
        )
