"""What lies in the model repository at one moment, read in a thread: it may be a network drive."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import NamedTuple

from bundle.format.repository import (
    DEFAULT_FILE,
    BundleRef,
    IgnoredFolder,
    default_model,
    scan,
)
from service.model_settings import OwnSettings, read_model_settings
from service.settings import Settings, SettingsError

# Of the files of a bundle: path, size, time of the last change in ns, and inode.
Files = frozenset[tuple[str, int, int, int]]

log = logging.getLogger("service")


class Bundle(NamedTuple):
    """A bundle in the repository, whether it is valid or not."""

    ref: BundleRef
    # Changes whenever a file does.
    files: Files


class Snapshot(NamedTuple):
    """The bundles by model and version, the folders that are none, and what the repository says."""

    bundles: dict[str, dict[int, Bundle]]
    ignored: list[IgnoredFolder]
    # The model for requests that name none; None: the repository names none, and has not only one.
    default: str | None
    # What serving.toml says of single models.
    own: dict[str, OwnSettings]
    # What could not be used of the file, and of `default`.
    error: str | None


def take_snapshot(settings: Settings, before: Snapshot) -> Snapshot:
    """Read the repository `settings.models_folder`.

    Args:
        settings: of the service.
        before: the last look, whose settings and default stay where the new ones are wrong.

    Raises:
        OSError: the repository can't be read, or has nothing left of what it had: a drive that is
            not mounted looks like that.
    """
    own, error = before.own, None
    try:
        own = read_model_settings(settings)
    except SettingsError as exc:
        error = str(exc)
    refs, ignored = scan(settings.models_folder)
    bundles: dict[str, dict[int, Bundle]] = {}
    for ref in refs:
        bundles.setdefault(ref.name, {})[ref.version] = Bundle(ref, _files(ref.path))
    if before.bundles and not bundles and not ignored:
        raise FileNotFoundError("there is no model any more; an absent drive looks like that")
    default = _default(settings, list(bundles))
    if before.default in bundles and default not in bundles and default != before.default:
        error = error or (
            f"The file {DEFAULT_FILE} names no model. Expected one of: "
            f"{', '.join(sorted(bundles))}. Received: {default!r}"
        )
        default = before.default
    return Snapshot(bundles, ignored, default, own, error)


def _default(settings: Settings, names: list[str]) -> str | None:
    if settings.default_model:
        return settings.default_model
    try:
        if name := default_model(settings.models_folder):
            return name
    except (OSError, UnicodeDecodeError) as exc:
        log.warning("the file %s can't be read: %s", DEFAULT_FILE, exc)
    return names[0] if len(names) == 1 else None


def _files(bundle: Path) -> Files:
    """The files below `bundle`, without those that can't be read."""
    found = []
    for folder, _, names in os.walk(bundle):
        for name in names:
            path = os.path.join(folder, name)  # noqa: PTH118 - called for each file at each look
            try:
                status = os.stat(path)  # noqa: PTH116
            except OSError:
                continue
            found.append((path, status.st_size, status.st_mtime_ns, status.st_ino))
    return frozenset(found)
