"""The file of API keys, and their short form in the environment.

    [shop]                      # the name of a client, as metrics and the log show it
    sha256 = ["2c26b46b…"]      # of its keys: two during a rotation
    requests_per_s = 50
    bytes_per_s = 20_000_000
    burst_requests = 100        # at once; default: what comes in within a second
    burst_bytes = 60_000_000
    weight = 3                  # of its images against those of others that wait; default: 1
    admin = true                # may load and unload models, and read the metrics; default: false

Only digests are stored. A key is 256 random bits, which nobody finds by trying, so a plain SHA-256
is enough; a slow hash protects passwords, which people choose.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from service.options.access import CLIENT, DIGEST
from service.settings import Settings, SettingsError

Digest = Annotated[str, Field(pattern=rf"^{DIGEST}$")]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Entry(BaseModel):
    """What the file says of one client."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    sha256: Annotated[list[Digest], Field(min_length=1)]
    requests_per_s: Rate | None = None
    bytes_per_s: Rate | None = None
    burst_requests: Count | None = None
    burst_bytes: Count | None = None
    weight: Annotated[int, Field(ge=1, le=1000)] = 1
    admin: bool = False

    @field_validator("sha256", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @field_validator("burst_requests", "burst_bytes")
    @classmethod
    def _has_a_rate(cls, value: int | None, info: ValidationInfo) -> int | None:
        rate = str(info.field_name).removeprefix("burst_") + "_per_s"
        if value is not None and info.data.get(rate) is None:
            raise ValueError(f"a burst is of a rate; set {rate}, too")
        return value

    @property
    def digests(self) -> list[bytes]:
        """SHA-256 of its keys."""
        return [bytes.fromhex(each) for each in self.sha256]


def read_entries(settings: Settings) -> dict[str, Entry]:
    """Every client with keys, from the file and the environment, by name.

    Raises:
        SettingsError: the file can't be read or is not valid, or a name or a key is there twice.
    """
    found: dict[str, Entry] = {}
    if settings.api_keys is not None:
        digests: dict[str, list[str]] = {}
        for pair in settings.api_keys.get_secret_value().split(","):
            name, _, digest = pair.strip().partition(":")
            digests.setdefault(name, []).append(digest)
        found = {name: Entry(sha256=of_name) for name, of_name in digests.items()}
    if settings.api_keys_file is not None:
        listed = _read_file(settings.api_keys_file)
        if both := sorted(found.keys() & listed.keys()):
            raise SettingsError(
                f"{settings.api_keys_file}: the names in the file and in SERVICE_API_KEYS have to "
                f"differ. Received: {', '.join(both)} in both"
            )
        found |= listed
    _check_distinct(found)
    return found


def _read_file(path: Path) -> dict[str, Entry]:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else exc
        raise SettingsError(
            "SERVICE_API_KEYS_FILE: the file can't be read. Expected TOML. "
            f"Received: '{path}': {reason}"
        ) from exc
    if not tables:
        raise SettingsError(
            f"SERVICE_API_KEYS_FILE: the file has no key. Expected a table for each client, as "
            f"`python -m service keys new NAME` prints it. Received: '{path}'"
        )
    return {name: _entry(path, name, table) for name, table in tables.items()}


def _entry(path: Path, name: str, table: object) -> Entry:
    # Values of a wrong file are not repeated where they may be a key.
    if not is_name(name) or not isinstance(table, dict):
        raise SettingsError(
            f"{path}: expected tables that are named after clients, as [shop], in a-z, 0-9, "
            f"'.', '_' and '-'. Received: {name[:64]!r}"
        )
    try:
        return Entry.model_validate(table)
    except ValidationError as exc:
        (error, *_) = exc.errors()
        key = str(error["loc"][0])
        if error["type"] == "extra_forbidden":
            expected, received = f"Expected one of {', '.join(Entry.model_fields)}", "another key"
        elif key == "sha256":
            expected = "Expected the SHA-256 of a key, or a list of them, in 64 hexadecimal digits"
            received = "another value"
        else:
            expected, received = error["msg"], repr(error["input"])
        raise SettingsError(f"{path}, [{name}], {key}: {expected}. Received: {received}") from exc


def is_name(name: str) -> bool:
    """Whether a client may have this name."""
    return CLIENT.fullmatch(name) is not None


def _check_distinct(entries: dict[str, Entry]) -> None:
    """Check that no two clients have the same key."""
    owners: dict[bytes, str] = {}
    for name, entry in entries.items():
        for digest in entry.digests:
            if owners.setdefault(digest, name) != name:
                raise SettingsError(
                    "API keys: each client has its own. "
                    f"Received: the same key of {owners[digest]} and {name}"
                )
