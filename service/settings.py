"""Every setting of the service, with its default and help; read once from the environment."""

from __future__ import annotations

import os

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from service import neighbours
from service.options.access import AccessOptions
from service.options.address import without_secrets
from service.options.isolation import IsolationOptions
from service.options.limits import LimitOptions
from service.options.log import LogOptions
from service.options.models import ModelOptions
from service.options.network import NetworkOptions

PREFIX = neighbours.PREFIX


class SettingsError(ValueError):
    """A variable has an invalid value; the message names it."""


# The fields are in the order of the last base to the first.
class Settings(
    LogOptions,
    LimitOptions,
    IsolationOptions,
    AccessOptions,
    NetworkOptions,
    ModelOptions,
    BaseSettings,
):
    """The settings, from environment variables with the prefix SERVICE_."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True
    )


SECRETS = {
    name for name, field in Settings.model_fields.items() if field.annotation == SecretStr | None
}
"""Settings whose values are shown nowhere."""


def read_settings() -> Settings:
    """The settings from the environment.

    Raises:
        SettingsError: a value is invalid; the variable is named.
    """
    try:
        return Settings()
    except ValidationError as exc:
        problems = []
        for error in exc.errors():
            name = PREFIX + "_".join(map(str, error["loc"])).upper()
            secret = error["loc"][0] in SECRETS
            received = (
                f"{len(error['input'])} characters"
                if secret
                else without_secrets(repr(error["input"]))
            )
            expected = error["msg"].removeprefix("Value error, ")
            if error["type"] == "string_pattern_mismatch":
                # In place of a regular expression.
                meaning = Settings.model_fields[str(error["loc"][0])].description or ""
                expected = f"expected: {meaning.removesuffix('.')}"
            problems.append(f"{name}: {expected}. Received: {received}")
        raise SettingsError("; ".join(problems)) from exc


def ignored_variables() -> list[str]:
    """A sentence for each variable of the environment that looks like a setting and is none."""
    return neighbours.warnings(
        os.environ, (PREFIX + name.upper() for name in Settings.model_fields)
    )


def settings_table(values: Settings | None = None) -> str:
    """The settings as a Markdown table; with `values`, also what is in force."""
    head = ["variable", "default", *(["in force"] if values else []), "meaning"]
    rows = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, field in Settings.model_fields.items():
        cells = [field.default, *([getattr(values, name)] if values else [])]
        shown = ["" if cell is None else f"`{cell}`" for cell in cells]
        row = [f"`{PREFIX}{name.upper()}`", *shown, field.description or ""]
        rows.append(f"| {' | '.join(row)} |")
    return "\n".join(rows)
