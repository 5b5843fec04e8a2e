"""Settings of single models: `serving.toml` in the model repository.

    [imagenet-resnet50]
    runtime_threads = 2
    queue_size = 64

A table is named after a model and applies to all of its versions. Its keys are those settings of
the service that a model can have for itself, which a variable of the environment overrules, and
`traffic` (see `service.traffic`).
"""

from __future__ import annotations

import tomllib
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from service.settings import Settings, SettingsError
from service.traffic import KEY, Traffic, read_traffic

FILE = "serving.toml"
KEYS = (
    *("versions", "device", "runtime", "runtime_threads", "instances", "max_batch"),
    "queue_size",
)

# With the types, limits and descriptions of the service's own.
ModelSettings: type[BaseModel] = create_model(
    "ModelSettings",
    __config__=ConfigDict(extra="forbid", strict=True),
    **{key: (Settings.model_fields[key].annotation, Settings.model_fields[key]) for key in KEYS},  # type: ignore[call-overload]
)


class OwnSettings(NamedTuple):
    """What `serving.toml` says of a model."""

    settings: Settings  # those of the service with its own
    traffic: Traffic


def read_model_settings(settings: Settings) -> dict[str, OwnSettings]:
    """The settings of each model that the file names.

    Raises:
        SettingsError: the file can't be read, or a value is invalid; the text names it.
    """
    path = settings.models_folder / FILE
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise SettingsError(
            f"The settings of the models can't be read. Expected TOML. Received: '{path}': {exc}"
        ) from exc
    return {name: _of_model(settings, name, table) for name, table in tables.items()}


def _of_model(settings: Settings, name: str, table: object) -> OwnSettings:
    file = settings.models_folder / FILE
    if not isinstance(table, dict):
        raise SettingsError(
            f"{file}: expected tables that are named after models, as [flowers], with the keys "
            f"{', '.join(KEYS)}. Received: {name} = {table!r}"
        )
    traffic = read_traffic(name, table.pop(KEY, {}), str(file))
    try:
        own = ModelSettings.model_validate(table)
    except ValidationError as exc:
        (error, *_) = exc.errors()
        key = ".".join(map(str, error["loc"]))
        expected = f"Expected one of {', '.join(KEYS)}" if key not in KEYS else f"{error['msg']}"
        raise SettingsError(
            f"{file}, [{name}], {key}: {expected}. Received: {error['input']!r}"
        ) from exc
    changes = {key: getattr(own, key) for key in own.model_fields_set - settings.model_fields_set}
    return OwnSettings(settings.model_copy(update=changes), traffic)
