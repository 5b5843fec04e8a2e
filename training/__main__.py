"""`python -m training COMMAND`; each command is a module of `training/commands/`."""

from __future__ import annotations

import sys

import typer
from rich.console import Console
from rich.markup import escape

from bundle.errors import BundleError
from training.commands.compare import compare
from training.commands.degradation import degradation
from training.commands.fit import fit
from training.commands.options import console
from training.commands.pretrained import pretrained
from training.commands.train import train
from training.commands.transfer import transfer
from training.errors import TrainingError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Train ResNets, write servable bundles, compare them.",
)
for command in (train, fit, pretrained, compare, degradation, transfer):
    app.command()(command)


@app.callback()
def main() -> None:
    """Train ResNets, write servable bundles, compare them."""


def run() -> None:
    """Run the command line; print a user's errors without a traceback and exit with 1."""
    try:
        app()
    except (TrainingError, BundleError) as exc:
        stderr = Console(stderr=True, highlight=False, quiet=console.quiet)
        stderr.print(f"[bold red]Error:[/] {escape(str(exc))}", soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    run()
