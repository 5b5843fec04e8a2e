"""Who may do what."""

from __future__ import annotations

from pydantic import BaseModel, Field, SecretStr


class AccessOptions(BaseModel):
    """Who may do what."""

    admin_key: SecretStr | None = Field(
        default=None,
        min_length=16,
        description="Key of the routes that load and unload models, of at least 16 characters; "
        "unset: there are no such routes.",
    )
