"""`python -m bundle sign DIR`: the options, and what is printed at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from bundle.errors import BundleError
from bundle.report import refuse
from bundle.signing.sign import sign as write_signature


def sign(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="The bundle folder: <models>/<name>/<version>.")
    ],
    private_key: Annotated[
        Path, typer.Option(help="Private key of an elliptic curve, in PEM and not encrypted.")
    ],
    certificate: Annotated[
        Path | None, typer.Option(help="Certificate of that key; without it the key is trusted.")
    ] = None,
    chain: Annotated[
        list[Path] | None,
        typer.Option(help="Certificate between that one and the trusted one; may be repeated."),
    ] = None,
) -> None:
    """Sign a bundle as it is, for services that require it (OpenSSF model signing)."""
    console = Console()
    try:
        with console.status("signing"):
            path = write_signature(directory, private_key, certificate, chain or ())
    except BundleError as exc:
        refuse(console, exc)
    except OSError as exc:
        console.print(f"[red]storage[/red]: The signature can't be written: {escape(str(exc))}")
        raise typer.Exit(1) from exc
    console.print(f"Signed: {escape(str(path))}")
