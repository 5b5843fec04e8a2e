"""A folder of bundles, ``<root>/<name>/<version>/``, and the check that a bundle's files are what it says."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bundle.errors import IntegrityFailed
from bundle.format.manifest import MANIFEST_FILE, NAME_PATTERN, Manifest

_NAME = re.compile(NAME_PATTERN)
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True, order=True)
class BundleRef:
    """Where one version of one model lies. Order: name, then version as a number."""

    name: str
    version: int
    path: Path


@dataclass(frozen=True, order=True)
class IgnoredFolder:
    """A folder of the repository that is not a bundle, and why."""

    path: Path
    reason: str


def list_bundles(root: Path) -> list[BundleRef]:
    """The bundles below ``root``, sorted by name and version. A folder that does not exist holds none."""
    return scan(root)[0]


def list_ignored(root: Path) -> list[IgnoredFolder]:
    """The folders below ``root`` that :func:`list_bundles` passes over, with the reason for each."""
    return scan(root)[1]


def scan(root: Path) -> tuple[list[BundleRef], list[IgnoredFolder]]:
    """Both lists in one walk. Hidden folders (``.writing-...`` of a writer at work) are in neither."""
    bundles: list[BundleRef] = []
    ignored: list[IgnoredFolder] = []
    for model in _folders(root):
        if not _NAME.fullmatch(model.name):
            ignored.append(
                IgnoredFolder(model, f"the name does not match {NAME_PATTERN}: {model.name!r}")
            )
            continue
        for version in _folders(model):
            if not _VERSION.fullmatch(version.name):
                ignored.append(
                    IgnoredFolder(version, f"the version is not 1, 2, 3, ...: {version.name!r}")
                )
            elif not (version / MANIFEST_FILE).is_file():
                ignored.append(IgnoredFolder(version, f"there is no {MANIFEST_FILE}"))
            else:
                bundles.append(BundleRef(model.name, int(version.name), version))
    return sorted(bundles), sorted(ignored)


def _folders(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from (p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))


def verify_files(path: Path, manifest: Manifest) -> None:
    """Check that the folder holds exactly the listed files, each with its size and sha256.

    Empty folders pass. Raises :class:`IntegrityFailed` for a missing or extra file, another size or digest,
    and for anything below ``path`` that is neither a folder nor a regular file (symlinks above all).
    """
    present = set(_regular_files(path)) - {MANIFEST_FILE}
    listed = set(manifest.files)
    if missing := sorted(listed - present):
        raise IntegrityFailed(
            _text(f"{len(missing)} file(s) of the manifest are missing", missing[0])
        )
    if extra := sorted(present - listed):
        raise IntegrityFailed(
            _text(f"{len(extra)} file(s) are not listed in the manifest", extra[0])
        )
    for name, record in sorted(manifest.files.items()):
        size, digest = _digest(path / name, name)
        if size != record.size:
            raise IntegrityFailed(
                _text(f"a file has {size} bytes, the manifest says {record.size}", name)
            )
        if digest != record.sha256:
            raise IntegrityFailed(
                _text(f"a file has the sha256 {digest}, the manifest says {record.sha256}", name)
            )


def file_digest(path: Path) -> tuple[int, str]:
    """Size in bytes and sha256 (hex) of one regular file, read in chunks. A symlink raises ``OSError``."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest


def _digest(path: Path, name: str) -> tuple[int, str]:
    try:
        return file_digest(path)
    except OSError as exc:
        raise IntegrityFailed(_text(f"a file cannot be read ({exc.strerror})", name)) from exc


def _regular_files(root: Path) -> Iterator[str]:
    """Paths of all files below ``root``, relative and POSIX; links are never followed."""
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            entries = list(os.scandir(root / folder))
        except OSError as exc:
            raise IntegrityFailed(
                _text(f"a folder cannot be read ({exc.strerror})", folder or ".")
            ) from exc
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                pending.append(name)
            elif stat.S_ISREG(mode):
                yield name
            else:
                raise IntegrityFailed(
                    _text(
                        "something is neither a regular file nor a folder (a symlink, a device)",
                        name,
                    )
                )


def _text(what: str, name: str) -> str:
    return (
        f"The bundle is not what its manifest says: {what}. Copy the bundle again from its origin. "
        f"Received: {name!r}"
    )
