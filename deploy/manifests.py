"""The chart of deploy/helm as plain manifests in deploy/kubernetes, by Helm's own code.

`python -m deploy.manifests` writes them, with the chart's default values; `--check` only says
whether they are what the chart gives. The package helm-python-sdk has Helm 4 as a library, so
neither a `helm` command nor a cluster is needed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path, PurePosixPath
from typing import Any

from helm_python.chart import Chart

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy/helm/resnet-service"
FOLDER = ROOT / "deploy/kubernetes"
RELEASE = "resnet-service"
HEADER = "# Written by python -m deploy.manifests from {}: change that.\n"


def rendered(values: dict[str, Any] | None = None) -> dict[str, str]:
    """The manifests by the name of their template; templates that give nothing are left out.

    Args:
        values: What replaces the chart's default values.

    Raises:
        helm_python.errors.HelmError: The values break the schema, or a template fails.
    """
    with Chart.load(CHART) as chart:
        chart.validate_schema(values)
        texts = chart.render(values, name=RELEASE, namespace="default")
    return {
        PurePosixPath(name).name: text.strip() + "\n"
        for name, text in sorted(texts.items())
        if name.endswith(".yaml") and text.strip()
    }


def plain() -> dict[str, str]:
    """The files of deploy/kubernetes by name, as they have to be."""
    place = (CHART / "templates").relative_to(ROOT).as_posix()
    return {name: HEADER.format(f"{place}/{name}") + text for name, text in rendered().items()}


def main() -> int:
    """Write the manifests, or compare them; 1 if they differ."""
    parser = argparse.ArgumentParser(description="The chart as plain manifests.")
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    check = parser.parse_args().check
    wanted = plain()
    present = {path.name: path.read_text() for path in sorted(FOLDER.glob("*.yaml"))}
    if check:
        different = sorted(k for k in wanted | present if wanted.get(k) != present.get(k))
        print("\n".join(different) or "deploy/kubernetes is what the chart gives")
        return 1 if different else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in present.keys() - wanted.keys():
        (FOLDER / name).unlink()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text)
    print(f"{len(wanted)} manifests in {FOLDER.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
