"""Find the bundles of a model repository, `<root>/<name>/<version>/`, and verify their files."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bundle.errors import IntegrityFailed, ManifestInvalid
from bundle.format.manifest import MANIFEST_FILE, NAME_PATTERN, Manifest

DEFAULT_FILE = "default"
SIGNATURE_FILE = "model.sig"
_NAME = re.compile(NAME_PATTERN)
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True, order=True)
class BundleRef:
    """Path of one version of one model. Order: name, then version as a number."""

    name: str
    version: int
    path: Path


@dataclass(frozen=True, order=True)
class IgnoredFolder:
    """A folder of the repository that is not a bundle, and why."""

    path: Path
    reason: str


def list_bundles(root: Path) -> list[BundleRef]:
    """The bundles below `root`, sorted by name and version; see `scan`."""
    return scan(root)[0]


def scan(root: Path) -> tuple[list[BundleRef], list[IgnoredFolder]]:
    """The bundles below `root`, and the folders that are not bundles, both sorted.

    Hidden folders (`.writing-...`, of a writer in progress) are in neither list. A version that
    cannot be read is a bundle, which `read_manifest` refuses with the reason; a model that cannot
    be read is an ignored folder. A `root` that does not exist has no bundles.

    Raises:
        OSError: `root` itself cannot be read.
    """
    bundles: list[BundleRef] = []
    ignored: list[IgnoredFolder] = []
    for model in _folders(root) if root.is_dir() else []:
        if not _NAME.fullmatch(model.name):
            reason = f"the name does not match {NAME_PATTERN}: {model.name!r}"
            ignored.append(IgnoredFolder(model, reason))
            continue
        try:
            versions = _folders(model)
        except OSError as exc:
            ignored.append(IgnoredFolder(model, f"cannot be read: {exc.strerror}"))
            continue
        for version in versions:
            if not _VERSION.fullmatch(version.name):
                reason = f"the version is not 1, 2, 3, ...: {version.name!r}"
                ignored.append(IgnoredFolder(version, reason))
            elif _is_absent(version / MANIFEST_FILE):
                ignored.append(IgnoredFolder(version, f"there is no {MANIFEST_FILE}"))
            else:
                bundles.append(BundleRef(model.name, int(version.name), version))
    return sorted(bundles), sorted(ignored)


def is_bundle_path(name: str, version: str) -> bool:
    """Whether folders of these names can be those of a bundle."""
    return bool(_NAME.fullmatch(name) and _VERSION.fullmatch(version))


def default_model(root: Path) -> str | None:
    """The model for requests that name none, as the file `default` says; None: there is no file.

    Raises:
        OSError: The file cannot be read.
        UnicodeDecodeError: It is not text.
    """
    file = root / DEFAULT_FILE
    # A folder of this name is a model.
    return file.read_text(encoding="utf-8").strip() if file.is_file() else None


def _folders(path: Path) -> list[Path]:
    with os.scandir(path) as entries:
        return [
            path / entry.name
            for entry in entries
            if not entry.name.startswith(".") and _may_be_folder(entry)
        ]


def _may_be_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a loop, for one: reading the folder reports it
        return True


def _is_absent(path: Path) -> bool:
    """Whether there is nothing at `path`; False where that cannot be told."""
    try:
        path.stat()
    except OSError as exc:
        return isinstance(exc, FileNotFoundError)
    return False


def check_folder(path: Path, manifest: Manifest) -> None:
    """Check that a bundle lies in `<name>/<version>`, where the service looks for it.

    Raises:
        ManifestInvalid: Its folders are called otherwise.
    """
    name, version = path.absolute().parts[-2:]
    if (manifest.name, str(manifest.version)) != (name, version):
        raise ManifestInvalid(
            "The manifest is of another model. Expected that of the folders, "
            f"{name}/{version}; rename them, or copy the right bundle there. "
            f"Received: {manifest.name}/{manifest.version}"
        )


def verify_files(path: Path, manifest: Manifest) -> None:
    """Check that a bundle folder holds exactly the listed files, each with its size and sha256.

    Beside them it has the manifest and may have a signature, which is checked elsewhere.

    The folder and its files may be links to others in the same repository, as stores of files by
    their content make them (DVC, the cache of Hugging Face, a ConfigMap). Empty folders pass.

    Raises:
        IntegrityFailed: A file is missing, extra, unreadable, or has another size or digest; a link
            leads out of the repository or to a folder in the bundle; or something below `path` is
            neither a folder nor a regular file.
    """
    repository = Path(os.path.realpath(path.absolute().parent.parent))
    if not Path(os.path.realpath(path)).is_relative_to(repository):
        raise _failed("the folder is a link that leads out of the model repository", path.name)
    present = set(_regular_files(path, repository)) - {MANIFEST_FILE, SIGNATURE_FILE}
    listed = set(manifest.files)
    if missing := sorted(listed - present):
        raise _failed(f"{len(missing)} file(s) of the manifest are missing", missing[0])
    if extra := sorted(present - listed):
        raise _failed(f"{len(extra)} file(s) are not listed in the manifest", extra[0])
    for name, record in sorted(manifest.files.items()):
        try:
            size, digest = file_digest(Path(os.path.realpath(path / name)))
        except OSError as exc:
            raise _failed(f"a file cannot be read ({exc.strerror})", name) from exc
        if size != record.size:
            raise _failed(f"a file has {size} bytes, the manifest lists {record.size}", name)
        if digest != record.sha256:
            raise _failed(
                f"a file has the sha256 {digest}, the manifest lists {record.sha256}", name
            )


def file_digest(path: Path) -> tuple[int, str]:
    """Size in bytes and sha256 (hex) of one regular file, read in chunks.

    Raises:
        OSError: It cannot be read, or is a symlink.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest


def _regular_files(root: Path, repository: Path) -> Iterator[str]:
    """Paths of all files below `root`, relative and POSIX; links to folders are not followed."""
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(root / folder) as entries:
                modes = {entry.name: entry.stat(follow_symlinks=False).st_mode for entry in entries}
        except OSError as exc:
            raise _failed(f"a folder cannot be read ({exc.strerror})", folder or ".") from exc
        for entry_name, mode in modes.items():
            name = f"{folder}/{entry_name}" if folder else entry_name
            if stat.S_ISDIR(mode):
                pending.append(name)
            elif stat.S_ISREG(mode) or _is_file_of(repository, root / name):
                yield name
            else:
                raise _failed(
                    "neither a regular file nor a folder, nor a link to a file of the model "
                    "repository",
                    name,
                )


def _is_file_of(repository: Path, link: Path) -> bool:
    """Whether a link leads to a regular file in the repository, which is a resolved path."""
    found = Path(os.path.realpath(link))
    return link.is_symlink() and found.is_relative_to(repository) and found.is_file()


def _failed(what: str, name: str) -> IntegrityFailed:
    return IntegrityFailed(
        f"The files of the bundle do not match its manifest: {what}. Copy the bundle again from "
        f"its origin. Received: {name!r}"
    )
