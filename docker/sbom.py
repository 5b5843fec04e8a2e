#!/usr/bin/env python3
"""Adds Debian's packages to a bill of materials of Python's: sbom.py BOM STATUS

BOM is CycloneDX in JSON, as cyclonedx-py writes it; STATUS is dpkg's record in the final image.
"""

from __future__ import annotations

import json
import platform
import re
import sys
from pathlib import Path
from urllib.parse import quote


def main() -> None:
    """Add the components, each with a package URL."""
    bom, status = map(Path, sys.argv[1:])
    content = json.loads(bom.read_text())
    components = content.setdefault("components", [])
    for record in status.read_text().strip().split("\n\n"):
        fields = dict(re.findall(r"^(Package|Version|Architecture): (.+)$", record, re.MULTILINE))
        name, version = fields["Package"], fields["Version"]
        arch = fields["Architecture"]
        purl = f"pkg:deb/debian/{quote(name)}@{quote(version)}?arch={arch}"
        components.append(
            {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
        )
    # Built from source in the base image, so no package names it.
    python = platform.python_version()
    purl = f"pkg:generic/python@{python}"
    components.append(
        {"type": "platform", "bom-ref": purl, "name": "python", "version": python, "purl": purl}
    )
    bom.write_text(json.dumps(content, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
