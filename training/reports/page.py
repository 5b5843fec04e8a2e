"""Reports as folders: a self-contained page without scripts, its tables and its plots."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from bundle.files import check_writable
from training.errors import ConfigError, StorageError
from training.reports.plots import COLOURS, standalone

PAGE = "index.html"
PLOTS = "plots"
NOTHING = "\N{EN DASH}"  # for a missing figure


def render(template: str, plots: Mapping[str, str | None], record: Mapping[str, Any]) -> str:
    """Render `template` with the record and the plots."""
    environment = Environment(
        loader=PackageLoader("training.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": _percent,
        "points": _points,
        "size": _size,
        "duration": _duration,
    }
    return environment.get_template(template).render(record, plots=plots, colours=COLOURS)


def plot_files(plots: Mapping[str, str | None]) -> dict[str, str]:
    """The plots as files of the report, by path."""
    return {
        f"{PLOTS}/{name}.svg": standalone(svg) for name, svg in plots.items() if svg is not None
    }


def check_target(target: Path) -> None:
    """Check before the work that its report can be written.

    Raises:
        ConfigError: the folder exists and is not a report.
        StorageError: it is not writable.
    """
    if target.exists() and not (target / PAGE).is_file():
        raise ConfigError(
            f"The report would replace {target}, which is not a report: it has no {PAGE}. "
            "Choose another --out."
        )
    try:
        check_writable(target.parent)
    except OSError as exc:
        raise StorageError(f"The folder for the report can't be written to: {exc}.") from exc


def publish(files: Mapping[str, str], target: Path) -> None:
    """Write the files by path, and replace the folder `target` in one step.

    Raises:
        StorageError: a file can't be written.
    """
    scratch = target.parent / f".{target.name}.writing"
    try:
        shutil.rmtree(scratch, ignore_errors=True)  # left by a killed process
        for name, text in files.items():
            path = scratch / "new" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        if target.exists():
            target.rename(scratch / "old")
        (scratch / "new").rename(target)
    except OSError as exc:
        raise StorageError(f"The report can't be written to {target}: {exc}.") from exc
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _percent(share: float | None, digits: int = 2) -> str:
    return NOTHING if share is None else f"{share * 100:.{digits}f} %"


def _points(difference: float | None) -> str:
    """A difference of shares in percentage points, with sign."""
    return NOTHING if difference is None else f"{difference * 100:+.2f}"


def _size(count: int) -> str:
    """Bytes in decimal units."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count / 1000:.1f} kB"


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {left:02} s"
