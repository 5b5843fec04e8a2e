"""`python -m bundle`: see `bundle.cli`."""

from __future__ import annotations

from bundle.cli import app

app(prog_name="python -m bundle")
