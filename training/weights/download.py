"""A file of weights from a URL: checked against the hash in its name, and never half there."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from rich.progress import wrap_file

from bundle.format.repository import file_digest
from training.errors import ConfigError, StorageError, WeightsError

HASH = re.compile(r"-([0-9a-f]{8,64})\.")  # as in resnet50-11ad3fa6.pth
TIMEOUT_S = 60.0  # without a byte
SILENCE_S = 20.0  # likewise, for the downloads of others
NOT_SATISFIABLE = 416  # the server has nothing behind the part that is here
NETWORK_ERRORS = (URLError, HTTPException, TimeoutError, ConnectionError, ssl.SSLError)


def download(url: str, folder: Path) -> Path:
    """The file at `url`, in `folder`; it is not fetched again if it is there.

    The name of the file carries the first digits of its sha256, as those of torchvision do. An interrupted download
    leaves a hidden part, with which the next one goes on; only what has the hash gets the name.

    Raises:
        ConfigError: the URL is not of http or https, or its file name carries no hash.
        WeightsError: the download failed or was cut, or the file has another hash.
        StorageError: the file can't be written.
    """
    name = PurePosixPath(urlsplit(url).path).name
    found = HASH.search(name)
    if urlsplit(url).scheme not in ("http", "https") or not found:
        raise ConfigError(
            "A URL of weights starts with http:// or https://, and its file name carries the first 8 or more digits of "
            f"the file's sha256, as in resnet50-11ad3fa6.pth. Download the file yourself otherwise. Received: {url!r}"
        )
    target, part = folder / name, folder / f".{name}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if target.is_file() and file_digest(target)[1].startswith(found[1]):
            return target
        _fetch(url, part)
        digest = file_digest(part)[1]
        if not digest.startswith(found[1]):
            part.unlink()
            raise WeightsError(
                f"The downloaded file is not what its name promises; it has been deleted. Expected a sha256 that "
                f"starts with {found[1]}. Received: {digest} from {url}"
            )
        part.replace(target)
    except OSError as exc:
        raise StorageError(f"The weights can't be written to {folder}: {exc}.") from exc
    return target


@contextmanager
def silence_limit(seconds: float = SILENCE_S) -> Iterator[None]:
    """The downloads of the frameworks wait for ever for a server that says nothing; inside, they fail after a while."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _fetch(url: str, part: Path) -> None:
    """All of the file at `url` in `part`, whose content so far is taken for its beginning."""
    start = part.stat().st_size if part.exists() else 0
    request = Request(url, headers={"Range": f"bytes={start}-"} if start else {})  # noqa: S310 - http or https, see above
    try:
        with urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - http or https, see above
            resumed = answer.status == 206
            missing = int(answer.headers.get("Content-Length") or 0)
            with (
                part.open("ab" if resumed else "wb") as file,
                wrap_file(answer, missing, description=part.name[1:-5], transient=True) as source,
            ):
                before = file.tell()
                shutil.copyfileobj(source, file)
                received = file.tell() - before
    except HTTPError as exc:
        if exc.code == NOT_SATISFIABLE and start:
            return  # the part is the whole, or its hash will tell
        raise WeightsError(f"The weights can't be downloaded ({exc}). Received: {url}") from exc
    except NETWORK_ERRORS as exc:
        raise WeightsError(
            f"The download failed ({exc}). The same command goes on. Received: {url}"
        ) from exc
    if received < missing:
        raise WeightsError(
            f"The connection ended after {received:,} of {missing:,} bytes. The same command goes on from there. "
            f"Received: {url}"
        )
