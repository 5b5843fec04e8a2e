"""Who may do what."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel, Field, SecretStr, field_validator

# The name of a client: metrics and the log show it.
CLIENT = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
# Of a key: SHA-256.
DIGEST = r"[0-9a-fA-F]{64}"
PAIR = re.compile(rf"{CLIENT.pattern}:{DIGEST}")


class AccessOptions(BaseModel):
    """Who may do what."""

    admin_key: SecretStr | None = Field(
        default=None,
        min_length=16,
        description="Key of the routes that load and unload models, of at least 16 characters; "
        "unset, and without a file of keys: there are no such routes.",
    )
    api_keys_file: Path | None = Field(
        default=None,
        description="File of API keys (TOML, docs/api-keys.md), read again when it changes; "
        "unset, and without SERVICE_API_KEYS: no request needs a key.",
    )
    api_keys: SecretStr | None = Field(
        default=None,
        description="API keys without limits: `NAME:SHA256` of each, with commas between them.",
    )

    @field_validator("api_keys")
    @classmethod
    def _are_pairs(cls, value: SecretStr | None) -> SecretStr | None:
        for pair in value.get_secret_value().split(",") if value is not None else ():
            if not PAIR.fullmatch(pair.strip()):
                raise ValueError(
                    "expected NAME:SHA256 of each key, with commas between them; "
                    "`python -m service keys new NAME` prints the SHA-256 of a new one"
                )
        return value

    @property
    def has_administrators(self) -> bool:
        """Whether there may be a key of one."""
        return self.admin_key is not None or self.api_keys_file is not None

    @property
    def needs_keys(self) -> bool:
        """Requests need an API key."""
        return self.api_keys is not None or self.api_keys_file is not None
