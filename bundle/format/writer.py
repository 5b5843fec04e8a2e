"""Write a bundle atomically: it is either complete or absent.

The files are made in a hidden folder next to the target; the manifest is written last; one rename
publishes the version. A killed writer leaves a hidden folder, which the next writer of that model
removes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bundle.errors import ManifestInvalid
from bundle.format.manifest import (
    MANIFEST_FILE,
    NAME_PATTERN,
    SCHEMA_VERSION,
    Manifest,
    parse_manifest,
)
from bundle.format.repository import DEFAULT_FILE, file_digest, scan

_PREFIX = ".writing-"


class BundleWriter:
    """Write one new version of one model.

    ```python
    with BundleWriter(root, "flowers") as writer:
        model.save(writer.directory / "model.pt")
        path = writer.commit({...})
    ```

    Leaving the block without `commit` removes everything.

    Args:
        root: The model repository.
        name: The model.
        version: None for the next free number.
        durable: False skips the fsync of each file, for scratch bundles.

    Raises:
        ManifestInvalid: The name or the version is not valid.
        FileExistsError: The version exists, on entering the block.
    """

    def __init__(
        self, root: Path, name: str, version: int | None = None, *, durable: bool = True
    ) -> None:
        if not re.fullmatch(NAME_PATTERN, name):
            raise ManifestInvalid(f"A model name matches {NAME_PATTERN}. Received: {name!r}")
        if version is not None and version < 1:
            raise ManifestInvalid(f"A version is 1 or more. Received: {version}")
        self.name = name
        self._home = Path(root) / name
        self._wanted = version
        self._durable = durable
        self._lock: int | None = None
        self._directory: Path | None = None

    @property
    def directory(self) -> Path:
        """The hidden folder for the files; valid from entering the block until `commit`."""
        if self._directory is None:
            raise RuntimeError("BundleWriter is used as a context manager, and only until commit()")
        return self._directory

    @property
    def version(self) -> int:
        """The version that `commit` will write, unless another writer takes the number first."""
        return self._wanted if self._wanted is not None else _next_version(self._home)

    def __enter__(self) -> Self:
        self._home.mkdir(parents=True, exist_ok=True)
        if self._wanted is not None and (self._home / str(self._wanted)).exists():
            raise FileExistsError(
                f"The version exists already: {str(self._home / str(self._wanted))!r}"
            )
        _remove_leftovers(self._home)
        directory = self._home / f"{_PREFIX}{self.version}-{os.getpid()}-{id(self):x}"
        while self._directory is None:
            directory.mkdir()
            # The kernel drops this lock when the process ends in any way, which marks a leftover.
            self._lock = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            if directory.exists():
                self._directory = directory
            else:
                # Another writer took the folder for a leftover before it was locked.
                os.close(self._lock)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def commit(self, manifest: Mapping[str, Any] | Manifest) -> Path:
        """Hash every file, write the manifest, fsync, and rename the folder to its final name.

        Args:
            manifest: The fields of `Manifest`; `schema_version`, `name`, `version`, `created` and
                `files` are overwritten.

        Returns:
            The bundle folder.

        Raises:
            ManifestInvalid: A field is not valid.
            FileExistsError: Another writer has published the requested version.
        """
        fields = (
            manifest.model_dump(mode="json") if isinstance(manifest, Manifest) else dict(manifest)
        )
        files = {}
        for path in sorted(
            p for p in self.directory.rglob("*") if not p.is_dir() or p.is_symlink()
        ):
            size, sha256 = file_digest(path)
            files[path.relative_to(self.directory).as_posix()] = {"size": size, "sha256": sha256}
            self._sync(path)
        while True:
            version = self.version
            record = {
                "schema_version": SCHEMA_VERSION,
                "name": self.name,
                "version": version,
                "created": datetime.now(UTC).isoformat(),
            }
            self._write_manifest(record | fields | record | {"files": files})
            try:
                return self._publish(version)
            except FileExistsError:
                if self._wanted is not None:
                    raise

    def _write_manifest(self, record: dict[str, Any]) -> None:
        try:
            text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        except (TypeError, ValueError) as exc:
            raise ManifestInvalid(
                f"The manifest cannot be written as JSON. Received: {exc}"
            ) from exc
        parse_manifest(text.encode())
        path = self.directory / MANIFEST_FILE
        path.write_text(text, encoding="utf-8")
        self._sync(path)

    def _publish(self, version: int) -> Path:
        for folder in [self.directory, *(p for p in self.directory.rglob("*") if p.is_dir())]:
            self._sync(folder)
        target = self._home / str(version)
        try:
            self.directory.rename(target)
        except OSError as exc:
            if exc.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise FileExistsError(f"The version exists already: {str(target)!r}") from exc
            raise
        self._directory = None
        self._sync(self._home)
        self._become_default()
        return target

    def _become_default(self) -> None:
        """The first model of a repository is its default, also once there are others."""
        if not self._durable:
            return
        root = self._home.parent
        # Nothing is lost without the file: the only model is the default anyway.
        with contextlib.suppress(OSError):
            if {bundle.name for bundle in scan(root)[0]} == {self.name}:
                with (root / DEFAULT_FILE).open("x", encoding="utf-8") as file:
                    file.write(f"{self.name}\n")

    def _sync(self, path: Path) -> None:
        if not self._durable:
            return
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _next_version(home: Path) -> int:
    taken = [int(p.name) for p in home.iterdir() if p.name.isdecimal()] if home.is_dir() else []
    return max(taken, default=0) + 1


def _remove_leftovers(home: Path) -> None:
    """Remove the hidden folders whose writers have ended; a running writer holds a lock on its."""
    for leftover in home.glob(f"{_PREFIX}*"):
        try:
            lock = os.open(leftover, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        except OSError:
            continue  # another writer has removed it
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(leftover, ignore_errors=True)
        finally:
            os.close(lock)
