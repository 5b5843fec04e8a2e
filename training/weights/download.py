"""A weights file from a URL, by the framework's own downloader; checked, and complete or absent."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from bundle.format.repository import file_digest
from training.errors import ConfigError, StorageError, WeightsError

HASH = re.compile(r"-([0-9a-f]{8,64})\.")  # as in resnet50-11ad3fa6.pth
READ_TIMEOUT_S = 20.0

Fetch = Callable[[str, Path], None]  # writes what is at a URL to a path


def download(url: str, folder: Path, fetch: Fetch) -> Path:
    """The file at `url`, kept in `folder` and downloaded only if it is not there.

    Its name contains the first digits of its sha256, as torchvision's do, and is given to a file
    with that hash only.

    Args:
        url: of http or https.
        folder: the cache, created if necessary.
        fetch: the framework's downloader, for example of `training/torch/weights.py`.

    Raises:
        ConfigError: the URL is not of http or https, or its file name contains no hash.
        WeightsError: the download failed, or the file has another hash.
        StorageError: the file can't be written.
    """
    name = PurePosixPath(urlsplit(url).path).name
    found = HASH.search(name)
    if urlsplit(url).scheme not in ("http", "https") or not found:
        raise ConfigError(
            "A URL of weights starts with http:// or https://, and its file name contains the "
            "first 8 or more digits of the file's sha256, as in resnet50-11ad3fa6.pth. Otherwise "
            f"download the file yourself. Received: {url!r}"
        )
    target, part = folder / name, folder / f".{name}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part.touch()
        part.unlink()
    except OSError as exc:
        raise StorageError(f"The weights can't be written to {folder}: {exc}.") from exc
    if target.is_file() and file_digest(target)[1].startswith(found[1]):
        return target
    try:
        with read_timeout():
            fetch(url, part)
    except Exception as exc:  # keras.utils.get_file raises Exception itself
        part.unlink(missing_ok=True)
        raise WeightsError(
            f"The weights can't be downloaded ({exc}). Expected internet access. Try again, or "
            f"download the file elsewhere: --weights FILE. Received: {url}"
        ) from exc
    digest = file_digest(part)[1]
    if not digest.startswith(found[1]):
        part.unlink()
        raise WeightsError(
            "The downloaded file is cut or not the one of that name; it was deleted. Expected a "
            f"sha256 that starts with {found[1]}. Received: {digest} from {url}"
        )
    part.replace(target)
    return target


@contextmanager
def read_timeout(seconds: float = READ_TIMEOUT_S) -> Iterator[None]:
    """Let downloads fail after so many seconds without a byte; the frameworks set no timeout."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
