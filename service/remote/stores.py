"""Stores of files by fsspec: S3, Google Cloud, Azure, Hugging Face, and web servers.

Every library raises types of its own; here they become `StoreError`, without credentials, or
`FileNotFoundError` where the store says that there is nothing.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, urlsplit

from bundle.format.repository import is_bundle_path

CHUNK_BYTES = 8 * 2**20
# Of one request; the process as a whole is watched too.
CONNECT_S, READ_S = 10, 60
# Before each further try of one request.
PAUSES_S = (0.5, 2.0)
MAX_VERSIONS = 10_000
MAX_INDEX_BYTES = 2_000_000
INDEX_FILE = "index.json"
TEXT_CHARACTERS = 300
# Fields of a listing that change with the bytes of a file, by what the libraries call them.
_FINGERPRINTS = (
    *("ETag", "etag", "LastModified", "last_modified", "generation", "md5Hash", "content_settings"),
    *("blob_id", "oid", "created", "mtime"),
)
_NO_SUCH_RANGE = 416

T = TypeVar("T")


class StoreError(Exception):
    """The store can't be reached, or answers something else than files."""


class OtherSize(StoreError):
    """A file is not as long as its manifest lists."""


class Entry(NamedTuple):
    """A file in a store."""

    size: int | None  # in bytes; None: the store does not say
    # Equal only if the file is the same; None: the store does not say.
    fingerprint: str | None


class Store:
    """The files below an address.

    Args:
        address: as `service.options.address` lets it through.
        clean: takes credentials out of a text.
        pause: sleeps, in seconds.

    Raises:
        StoreError: the package is missing, or refuses the address.
    """

    def __init__(
        self,
        address: str,
        clean: Callable[[str], str] = str,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clean = clean
        self._pause = pause
        self._is_web = urlsplit(address).scheme in ("http", "https")
        self._files, self._root = self._call(lambda: _open(address), "the address can't be opened")

    def versions(self) -> dict[str, list[int]]:
        """The numbers of the versions of each model, whether they are complete or not.

        Raises:
            FileNotFoundError: there is nothing at the address.
            StoreError: see there; or there are more than `MAX_VERSIONS`.
        """
        found: dict[str, list[int]] = {}
        pairs = self._indexed() if self._is_web else self._listed()
        for count, (name, version) in enumerate(pairs):
            if count == MAX_VERSIONS:
                raise StoreError(f"there are more than {MAX_VERSIONS} versions")
            if is_bundle_path(name, version):
                found.setdefault(name, []).append(int(version))
        return found

    def entries(self, folder: str) -> dict[str, Entry] | None:
        """The files right in a folder, by name; None: the store has no listings.

        Raises:
            FileNotFoundError: there is no such folder.
            StoreError: see there.
        """
        if self._is_web:
            return None
        return {
            _last(record): Entry(record.get("size"), _fingerprint(record))
            for record in self._list(folder)
            if record.get("type") == "file"
        }

    def walk(self, folder: str = "") -> Iterator[str]:
        """The paths of all files below a folder, sorted; one folder is in memory at a time.

        Raises:
            FileNotFoundError: there is no such folder.
            StoreError: see there.
        """
        # A folder sorts as the paths in it do.
        records = self._list(folder)
        for name in sorted(_last(each) + "/" * (each["type"] == "directory") for each in records):
            if name.endswith("/"):
                yield from self.walk(folder + name)
            else:
                yield folder + name

    def head(self, path: str, size: int) -> bytes:
        """The first `size` bytes of a file, or all that it has.

        Raises:
            FileNotFoundError: there is no such file.
            StoreError: see there.
        """
        return self._range(path, 0, size)

    def write(self, path: str, data: bytes) -> None:
        """Write a file, which is there as a whole or not at all.

        Raises:
            StoreError: see there.
        """
        url = f"{self._root}/{path}"
        self._call(lambda: self._files.pipe_file(url, data), f"{path} can't be written")

    def read(self, path: str, limit: int, entry: Entry | None = None) -> bytes:
        """A small file as a whole.

        Args:
            path: below the address.
            limit: in bytes.
            entry: what a listing says of it.

        Raises:
            FileNotFoundError: there is no such file.
            StoreError: see there; or it is larger than `limit`.
        """
        size = None if entry is None else entry.size
        if size == 0:
            return b""
        too_large = StoreError(f"{path} is larger than {limit} bytes")
        if size is not None and size > limit:
            raise too_large
        data = self._range(path, 0, limit + 1 if size is None else size)
        if len(data) > limit:
            raise too_large
        return data

    def chunks(self, path: str, start: int, size: int) -> Iterator[tuple[int, bytes]]:
        """The bytes of a file of `size` bytes from `start` on, each piece with its offset.

        A server without ranges sends the whole file, as one piece at 0.

        Raises:
            FileNotFoundError: there is no such file.
            OtherSize: see there.
            StoreError: see there.
        """
        while start < size:
            end = min(size, start + CHUNK_BYTES)
            data = self._range(path, start, end)
            if not data:
                raise OtherSize(f"has {start} bytes, and the manifest lists {size}")
            if len(data) > end - start:
                if len(data) != size:
                    raise OtherSize(f"has {len(data)} bytes, and the manifest lists {size}")
                start = 0
            yield start, data
            start += len(data)

    def _range(self, path: str, start: int, end: int) -> bytes:
        url = f"{self._root}/{quote(path) if self._is_web else path}"

        def get() -> bytes:
            try:
                data: bytes = self._files.cat_file(url, start=start, end=end)
            except FileNotFoundError:
                raise
            except Exception as exc:
                if self._is_beyond(url, start, exc):
                    return b""
                raise
            return data

        return self._call(get, f"{path} can't be read")

    def _is_beyond(self, url: str, start: int, exc: Exception) -> bool:
        """Whether reading has failed because the file has no byte at `start`."""
        if self._is_web:
            return getattr(exc, "status", None) == _NO_SUCH_RANGE
        # The libraries say it in different ways.
        return bool(self._files.size(url) <= start)

    def _listed(self) -> Iterator[tuple[str, str]]:
        for model in self._folders(""):
            if is_bundle_path(model, "1"):
                yield from ((model, version) for version in self._folders(model))

    def _folders(self, path: str) -> list[str]:
        return [_last(each) for each in self._list(path) if each.get("type") == "directory"]

    def _list(self, path: str) -> list[dict[str, Any]]:
        folder = f"{self._root}/{path}".rstrip("/")
        found = self._call(
            lambda: self._files.ls(folder, detail=True), f"{path or 'it'} can't be listed"
        )
        # Some stores list a marker of the folder itself.
        own = folder.strip("/")
        return [each for each in found if str(each["name"]).strip("/") != own]

    def _indexed(self) -> Iterator[tuple[str, str]]:
        """What the index of a web server lists, which has no listing that programs can rely on."""
        data = self.read(INDEX_FILE, MAX_INDEX_BYTES)
        try:
            for item in json.loads(data):
                name, version = item["name"], item["version"]
                if not isinstance(name, str) or type(version) is not int:
                    raise TypeError("a name is text, and a version a number")
                yield name, str(version)
        except (ValueError, TypeError, KeyError, RecursionError) as exc:
            raise StoreError(
                f"{INDEX_FILE} can't be used. Expected "
                f'[{{"name": "flowers", "version": 1}}, …]. Received: {type(exc).__name__}: {exc}'
            ) from exc

    def _call(self, function: Callable[[], T], what: str) -> T:
        """Call the library, and that of web servers again after a pause if it fails.

        Args:
            function: calls it.
            what: fails, for the error.
        """
        # The other libraries try again themselves.
        for pause_s in (*(PAUSES_S if self._is_web else ()), None):
            try:
                return function()
            except (FileNotFoundError, StoreError):
                raise
            except Exception as exc:
                if pause_s is None:
                    text = self._clean(" ".join(f"{type(exc).__name__}: {exc}".split()))
                    raise StoreError(f"{what} ({text[:TEXT_CHARACTERS]})") from exc
                self._pause(pause_s)
        raise AssertionError  # the last pause is None


def _open(address: str) -> tuple[Any, str]:
    """The filesystem of an address, and its root there."""
    import fsspec.core  # noqa: PLC0415 - of an extra

    scheme = urlsplit(address).scheme
    try:
        files, root = fsspec.core.url_to_fs(address, skip_instance_cache=True, **_options(scheme))
    except ImportError as exc:
        raise StoreError(f"the extra `remote` of this package is not installed ({exc})") from exc
    return files, root.rstrip("/")


def _options(scheme: str) -> dict[str, Any]:
    """What a library is told besides the address: how long to wait, and to keep no listings."""
    if scheme in ("http", "https"):
        import aiohttp  # noqa: PLC0415 - of an extra

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=READ_S)
        # Proxies by their usual variables, and passwords by ~/.netrc.
        return {"client_kwargs": {"timeout": timeout, "trust_env": True}, "encoded": True}
    if scheme == "s3":
        waits = {"connect_timeout": CONNECT_S, "read_timeout": READ_S}
        return {"config_kwargs": waits, "use_listings_cache": False}
    if scheme == "gs":
        return {"requests_timeout": READ_S}
    if scheme == "az":
        return {"connection_timeout": CONNECT_S, "read_timeout": READ_S}
    if scheme == "hf":
        os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", str(READ_S))
    return {}


def _last(record: dict[str, Any]) -> str:
    return str(record["name"]).rstrip("/").rpartition("/")[2]


def _fingerprint(record: dict[str, Any]) -> str | None:
    known = [(field, str(record[field])) for field in _FINGERPRINTS if record.get(field)]
    return json.dumps([*known, record.get("size")]) if known else None
