"""Keys for tests: a file of keys, and a clock that stands still."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from service.access.entries import Entry
from service.access.key import Key


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def write_keys(path: Path, **clients: dict[str, Any]) -> Path:
    """A file of keys; `keys` of a client are written as their digests."""
    lines = []
    for name, fields in clients.items():
        digests = [sha256(key) for key in fields.pop("keys", [f"secret-{name}"])]
        lines += [f"[{name}]", f"sha256 = {json.dumps(digests)}"]
        lines += [f"{field} = {json.dumps(value)}" for field, value in fields.items()]
    path.write_text("\n".join(lines))
    return path


def client(name: str, clock: Clock | None = None, **fields: Any) -> Key:
    """A client of a service."""
    return Key(name, Entry(sha256=[sha256(f"secret-{name}")], **fields), clock or Clock())
