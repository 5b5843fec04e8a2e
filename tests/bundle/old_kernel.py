"""Runs a Python module as on a kernel without Landlock: its first call fails as it does there."""

from __future__ import annotations

import errno
import os
import sys

from bundle import sandbox

if __name__ == "__main__":
    sandbox._no_new_privileges()
    call, missing = sandbox._CREATE_RULESET, 0x00050000 | errno.ENOSYS
    sandbox._filter(
        [
            (sandbox._LOAD, 0, 0, sandbox._NUMBER),
            (sandbox._EQUAL, 0, 1, call),
            (sandbox._END, 0, 0, missing),
            (sandbox._END, 0, 0, sandbox._ALLOW),
        ]
    )
    os.execv(sys.executable, [sys.executable, "-P", *sys.argv[1:]])  # noqa: S606
