"""Where images lie and results go: a folder, or a store of files by its address."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Protocol

from bundle.files import replace_file
from bundle.imaging.formats import SUFFIXES
from deploy.ray.score.errors import FileUnreadable, Refused, Stopped
from service.options.address import Address, folder_or_address, without_secrets
from service.remote.stores import Store, StoreError


class Storage(Protocol):
    """Files below a root, by their paths relative to it, with `/` between the parts."""

    address: str

    def images(self) -> Iterator[str]:
        """The images, sorted by their paths; those that are hidden are left out.

        Only what lies in one folder is in memory at a time.

        Raises:
            Refused: There is nothing there, or it can't be listed.
        """

    def read(self, path: str, limit: int) -> bytes:
        """A file, or its first `limit` bytes.

        Raises:
            FileUnreadable: It is gone, or can't be read.
            Stopped: No file can be read.
        """

    def write(self, path: str, data: bytes) -> None:
        """Write a file, which is there as a whole or not at all.

        Raises:
            Stopped: It can't be written.
        """

    def names(self) -> set[str]:
        """The files right below the root; none if there is no root.

        Raises:
            Refused: They can't be listed.
        """

    def locked(self) -> AbstractContextManager[None]:
        """Keep other runs from writing here, where that is possible.

        Raises:
            Refused: Another run does.
        """


def open_storage(address: str) -> Storage:
    """The files at an address, or in a folder.

    Raises:
        Refused: It is no address of a known kind, or the extra `remote` is not installed.
    """
    try:
        place = folder_or_address(address)
    except ValueError as exc:
        raise Refused(f"The address can't be used: {exc}.") from exc
    if not isinstance(place, Address):
        return Folder(place)
    if place.scheme in ("http", "https"):
        raise Refused(
            "Web servers have no listing. Expected a folder, or an address of a store that has "
            f"one. Received: {place}"
        )
    try:
        return Bucket(place)
    except StoreError as exc:
        raise Refused(f"{place}: {exc}.") from exc


class Folder:
    """A `Storage` on the disk, or on a network file system."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self.address = str(self._root)

    def images(self) -> Iterator[str]:
        """See `Storage`."""
        try:
            yield from self._below("")
        except OSError as exc:
            raise Refused(
                f"The images can't be listed: {exc.strerror}. Expected a folder. "
                f"Received: {exc.filename}"
            ) from exc

    def _below(self, folder: str) -> Iterator[str]:
        with os.scandir(self._root / folder) as entries:
            # A folder sorts as the paths in it do.
            names = sorted(
                f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name
                for entry in entries
                if not entry.name.startswith(".")
            )
        for name in names:
            if name.endswith("/"):
                yield from self._below(folder + name)
            elif is_image(name) and (self._root / folder / name).is_file():
                yield folder + name

    def read(self, path: str, limit: int) -> bytes:
        """See `Storage`."""
        try:
            with (self._root / path).open("rb") as file:
                return file.read(limit)
        except OSError as exc:
            if not self._root.is_dir():
                raise Stopped(f"The folder of images is gone. Received: {self._root}") from exc
            raise FileUnreadable(f"The file can't be read: {exc.strerror}") from exc

    def write(self, path: str, data: bytes) -> None:
        """See `Storage`."""
        file = self._root / path
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            replace_file(file, data)
        except OSError as exc:
            raise Stopped(f"{file} can't be written: {exc.strerror}.") from exc

    def names(self) -> set[str]:
        """See `Storage`."""
        try:
            return set(os.listdir(self._root))  # noqa: PTH208 - names alone, of many files
        except FileNotFoundError:
            return set()
        except OSError as exc:
            raise Refused(f"{self._root} can't be listed: {exc.strerror}.") from exc

    @contextmanager
    def locked(self) -> Iterator[None]:
        """See `Storage`."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            lock = (self._root / ".lock").open("w")
        except OSError as exc:
            raise Refused(f"{self._root} can't be written to: {exc.strerror}.") from exc
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                raise Refused(f"Another run writes to {self._root}. Wait for its end.") from exc
            yield


class Bucket:
    """A `Storage` that `service.remote.stores` reaches."""

    def __init__(self, address: Address) -> None:
        self.address = str(address)
        self._store = Store(address, without_secrets)

    def images(self) -> Iterator[str]:
        """See `Storage`."""
        try:
            yield from filter(is_image, self._store.walk())
        except FileNotFoundError as exc:
            raise Refused(f"There is nothing at the address. Received: {self.address}") from exc
        except StoreError as exc:
            raise Refused(f"{self.address}: {exc}.") from exc

    def read(self, path: str, limit: int) -> bytes:
        """See `Storage`."""
        try:
            return self._store.head(path, limit)
        except FileNotFoundError as exc:
            raise FileUnreadable("The file can't be read: the store no longer has it") from exc
        except StoreError as exc:
            raise Stopped(f"{self.address}: {exc}.") from exc

    def write(self, path: str, data: bytes) -> None:
        """See `Storage`."""
        try:
            self._store.write(path, data)
        except (FileNotFoundError, StoreError) as exc:
            raise Stopped(f"{self.address}: {exc}.") from exc

    def names(self) -> set[str]:
        """See `Storage`."""
        try:
            return set(self._store.entries("") or ())
        except FileNotFoundError:
            return set()
        except StoreError as exc:
            raise Refused(f"{self.address}: {exc}.") from exc

    def locked(self) -> AbstractContextManager[None]:
        """See `Storage`: stores have no locks. Two runs would do the same work twice."""
        return nullcontext()


def is_image(path: str) -> bool:
    """Whether the name of a file says that it is an image, and is not hidden."""
    parts = path.split("/")
    suffix = os.path.splitext(parts[-1])[1]  # noqa: PTH122 - Path is slow for millions
    return suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in parts)
