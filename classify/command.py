"""The command `classify`: files and folders in, labels out.

Exit code 0: every file has an answer. 1: some have none. 2: wrong usage, no service, or a bundle
that is refused.
"""

from __future__ import annotations

import enum
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from classify.answers import WRITERS, Answer
from classify.errors import ImageRefused, Unusable
from classify.files import image_files

DEFAULT_URL = "http://127.0.0.1:8000"

Classify = Callable[[str, bytes], Answer]


class Format(enum.StrEnum):
    """How answers are printed."""

    table = "table"
    json = "json"
    csv = "csv"


def classify(
    paths: Annotated[
        list[Path], typer.Argument(metavar="FILE_OR_FOLDER...", help="Images, and folders of them.")
    ],
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME[@VERSION]", help="A model of the service; default: its own."),
    ] = None,
    url: Annotated[
        str, typer.Option(envvar="CLASSIFY_URL", help="Address of the service.")
    ] = DEFAULT_URL,
    key: Annotated[
        str | None, typer.Option(envvar="CLASSIFY_API_KEY", help="API key of the service.")
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="A bundle, MODELS/NAME/VERSION, without a service."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Labels for each image.")] = 1,
    form: Annotated[
        Format, typer.Option("--format", help="Table, JSON or CSV, on standard output.")
    ] = Format.table,
    explain: Annotated[
        Path | None,
        typer.Option(metavar="PNG", help="Write where the model looked, for one image."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Images at once.")] = 4,
) -> None:
    """Classify images with a running service, or with a bundle."""
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        if bundle is not None and (model is not None or explain is not None):
            option = "--model" if model is not None else "--explain"
            raise Unusable(f"{option} is of a service. Expected it without --bundle.")
        files = list(image_files(paths))
        if not files:
            raise Unusable("There is no image in the folders. Expected files of a known type.")
        if explain is not None and len(files) != 1:
            raise Unusable(f"--explain is for one image. Received: {len(files)} files")
        with ExitStack() as opened:
            if bundle is not None:
                # Each with what it needs installed.
                from classify.local import BundleModel  # noqa: PLC0415

                with errors.status("loading the bundle ..."):
                    local = BundleModel(bundle, top)
                opened.callback(local.close)
                failed = _print(files, local.classify, form, jobs, errors)
            else:
                from classify.service import ServiceModel  # noqa: PLC0415

                remote = ServiceModel(url, model, key, top)
                failed = _print(files, remote.classify, form, jobs, errors)
                if explain is not None and not failed:
                    _write(explain, remote.explain(files[0].read_bytes()))
    except (Unusable, ImageRefused) as exc:
        errors.print(f"[bold red]Error:[/] {escape(str(exc))}")
        raise typer.Exit(2) from exc
    if failed:
        errors.print(f"[yellow]{failed:,} of {len(files):,} files have no answer.[/]")
        raise typer.Exit(1)


def _print(files: list[Path], ask: Classify, form: Format, jobs: int, errors: Console) -> int:
    """Print the answers; returns how many files have none."""
    failed = 0
    writer = WRITERS[form](sys.stdout)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        for answer in progress.track(_answers(files, ask, jobs), total=len(files), description=""):
            writer.write(answer)
            failed += answer.error is not None
    writer.close()
    return failed


def _answers(files: list[Path], ask: Classify, jobs: int) -> Iterator[Answer]:
    """The answers in the order of the files, `jobs` of them being asked for at once."""

    def answer(file: Path) -> Answer:
        try:
            return ask(str(file), _read(file))
        except ImageRefused as exc:
            return Answer(str(file), error=(exc.code, str(exc)))

    with ThreadPoolExecutor(jobs) as pool:
        try:
            yield from pool.map(answer, files)
        except BaseException:
            # Those that have not begun would only fail too, or delay Ctrl-C.
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as exc:
        raise ImageRefused("unreadable_file", f"The file can't be read: {exc.strerror}") from exc


def _write(file: Path, content: bytes) -> None:
    try:
        file.write_bytes(content)
    except OSError as exc:
        raise Unusable(f"--explain: '{file}' can't be written: {exc.strerror}") from exc


def main() -> None:
    """Run the command line."""
    try:
        typer.run(classify)
    except BrokenPipeError:
        # `classify ... | head`: the reader has had enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
