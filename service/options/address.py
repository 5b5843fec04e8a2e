"""The address of a model repository that is not a folder of this machine."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

PACKAGES = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "az": "adlfs",
    "hf": "huggingface_hub",
    "https": "aiohttp",
    "http": "aiohttp",
}
"""By scheme: the package that speaks it, of the extra `remote`."""

_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|::1")


class Address(str):
    """A URL without a slash at its end, credentials, query and fragment."""

    __slots__ = ()

    @property
    def scheme(self) -> str:
        """A key of `PACKAGES`."""
        return urlsplit(self).scheme

    @property
    def can_be_altered(self) -> bool:
        """Whether who carries the bytes could change them: plain HTTP to another machine."""
        host = urlsplit(self).hostname or ""
        return self.scheme == "http" and _LOOPBACK.fullmatch(host) is None

    def folder(self, cache: Path) -> Path:
        """Where its copy lies; no two addresses share a folder."""
        words = re.sub(r"[^A-Za-z0-9]+", "-", self)[:60].strip("-")
        return cache / f"{words}-{hashlib.sha256(self.encode()).hexdigest()[:12]}"


def default_cache() -> Path:
    """Of the user, because anyone who can write there decides what is loaded."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "resnet-service"


def folder_or_address(value: object) -> Path | Address:
    """What a setting names: a folder, or an address of a known kind.

    Raises:
        ValueError: it is neither. The text does not repeat it: it may have a password.
    """
    if isinstance(value, Path):
        return value
    if not isinstance(value, str):
        raise ValueError("expected a folder or an address")
    scheme, separator, _ = value.partition("://")
    if not separator:
        return Path(value)
    parts = urlsplit(value)
    if scheme not in PACKAGES or not parts.netloc:
        schemes = ", ".join(f"{each}://" for each in PACKAGES)
        raise ValueError(f"expected a folder, or an address that begins with one of {schemes}")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(
            "expected an address without user, password, query and fragment; credentials come from "
            "the variables of the store (docs/remote-models.md)"
        )
    return Address(value.rstrip("/"))


def without_secrets(text: str) -> str:
    """The text with what may be a credential in its URLs left out: the user and the query."""
    text = re.sub(r"(?<=://)[^/\s'\"@]*@", "…@", text)
    return re.sub(r"(://[^\s'\"?#]*)[?#][^\s'\"]*", r"\1?…", text)
