"""Change the record of a bundle in its place, where no artifact changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bundle.errors import ManifestInvalid
from bundle.files import replace_file
from bundle.format.manifest import MANIFEST_FILE, Manifest, parse_manifest
from bundle.format.repository import SIGNATURE_FILE


def rewrite(
    directory: Path, manifest: Manifest, changes: Mapping[str, Any], files: Mapping[str, bytes]
) -> Manifest:
    """Write files into a bundle, and its manifest with changes; name, version and date stay.

    Each file is replaced at once, the manifest last: a reader in between finds a file that does not
    match the old manifest, and refuses the bundle until the new one is there.

    Args:
        directory: The bundle folder.
        manifest: Its record.
        changes: Fields of the new one.
        files: Contents by path.

    Raises:
        ManifestInvalid: The bundle is signed, which this would break, or a change is not valid.
        OSError: A file can't be written.
    """
    if (directory / SIGNATURE_FILE).exists():
        raise ManifestInvalid(
            "The bundle is signed, and its record can't be changed in its place. Write a next "
            f"version instead, and sign that. Received: {str(directory)!r}"
        )
    listed = {name: each.model_dump() for name, each in manifest.files.items()} | {
        name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in files.items()
    }
    record = manifest.model_dump(mode="json") | dict(changes) | {"files": listed}
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    changed = parse_manifest(text.encode())
    for name, content in [*files.items(), (MANIFEST_FILE, text.encode())]:
        replace_file(directory / name, content)
    return changed
