"""Which version answers a request that names none: `[NAME.traffic]` in `serving.toml`.

    [flowers.traffic]
    stable = 3
    canary = 4
    canary_share = 0.1

Both versions are loaded, whatever `versions` says. Requests with the same session id get the same
one; raising the share moves sessions to the canary and none away from it.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from service.settings import SettingsError

KEY = "traffic"
ALIASES = ("stable", "canary")

Version = Annotated[int, Field(ge=1)]


class Traffic(BaseModel):
    """The versions behind the aliases of a model, and the share of requests for the canary."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    stable: Version | None = None
    canary: Version | None = None
    canary_share: Annotated[float, Field(ge=0, le=1)] = 0.0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.canary_share and self.canary is None:
            raise ValueError("canary_share is of a canary; name its version, too")
        if self.canary is not None and self.canary == self.stable:
            raise ValueError("stable and canary are two versions")
        return self

    def version(self, alias: str) -> int | None:
        """The version behind `stable` or `canary`; None: the alias is not set."""
        return self.stable if alias == "stable" else self.canary

    def is_canary(
        self, name: str, session: str | None, draw: Callable[[], float] = random.random
    ) -> bool:
        """Whether a request is one for the canary, by its session if it has one, or by chance."""
        if not self.canary_share:
            return False
        return (_fraction(name, session) if session else draw()) < self.canary_share


def read_traffic(name: str, table: Mapping[str, Any], file: str) -> Traffic:
    """The traffic of a model, from its table in `serving.toml`.

    Raises:
        SettingsError: it is not valid; the text names the key.
    """
    try:
        return Traffic.model_validate(table)
    except ValidationError as exc:
        (error, *_) = exc.errors()
        key = ".".join(map(str, error["loc"])) or KEY
        expected = error["msg"].removeprefix("Value error, ")
        if error["type"] == "extra_forbidden":
            expected = f"Expected one of {', '.join(Traffic.model_fields)}"
        raise SettingsError(
            f"{file}, [{name}.{KEY}], {key}: {expected}. Received: {error['input']!r}"
        ) from exc


def _fraction(name: str, session: str) -> float:
    """A number from 0 to 1 that depends on both alone."""
    digest = hashlib.sha256(f"{name}\0{session}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
