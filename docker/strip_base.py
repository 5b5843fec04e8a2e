"""Removes from the base image what no container runs: shells, installers, Debian's tools.

Runs as root in a build stage. Debian's record of installed packages is kept right, because scanners
read it and the bill of materials is made from it. What serves is Python and shared libraries.
"""

from __future__ import annotations

import compileall
import contextlib
import py_compile
import re
import shutil
import sysconfig
from pathlib import Path

DPKG = Path("/var/lib/dpkg")
# Essential ones among them: nothing is installed or configured in the image any more.
TOOLS = re.compile(
    r"adduser|apt|bash|bsdutils|coreutils|curl|dash|debconf|debian-archive-keyring|debianutils|"
    r"diffutils|dpkg|e2fsprogs|findutils|gpgv|grep|gzip|hostname|init-system-helpers|libapt-pkg.*|"
    r"libext2fs.*|libpam.*|libss2|login|logsave|mawk|mount|ncurses-bin|openssl|passwd|perl.*|"
    r"procps|readline-common|sed|sysvinit-utils|tar|usr-is-merged|util-linux.*|wget|xz-utils"
)
# Of Python: installers, and parts that only developers use.
UNUSED = (
    "{stdlib}/site-packages/*",
    "{stdlib}/ensurepip",
    "{stdlib}/idlelib",
    "{stdlib}/lib2to3",
    "{stdlib}/pydoc_data",
    "{stdlib}/test",
    "{stdlib}/tkinter",
    "{stdlib}/turtledemo",
    "{stdlib}/config-*",
    "{include}",
    "{scripts}/2to3*",
    "{scripts}/idle*",
    "{scripts}/pip*",
    "{scripts}/pydoc*",
    "{scripts}/python*-config",
    "{scripts}/wheel",
    "/usr/share/doc/*",
    "/usr/share/man",
    "/usr/share/info",
    "/usr/share/locale",
    "/usr/share/bash-completion",
    "/usr/lib/*/perl-base",
    "/etc/alternatives",
    "/etc/apt",
    "/etc/cron.*",
    "/etc/pip.conf",
    "/root/.cache",
    "/root/.config",
    "/var/cache/*",
    "/var/lib/apt",
    "/var/log/*",
)
ID = 10001


def main() -> None:
    """Remove the packages and files, compile the rest, add the user that the containers run as."""
    remove_packages()
    for pattern in UNUSED:
        for path in Path("/").glob(pattern.format(**sysconfig.get_paths()).lstrip("/")):
            remove(path)
    for folder in ("/usr/bin", "/usr/sbin", "/usr/local/bin"):
        for path in Path(folder).iterdir():
            if path.is_symlink() and not path.exists():
                path.unlink()
    # A base image may have the standard library without bytecode. On a read-only file system every
    # process then compiles what it imports: 7.5 s of CPU time until the service is ready, not 5.2.
    compileall.compile_dir(
        sysconfig.get_path("stdlib"),
        quiet=2,
        force=True,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    with Path("/etc/passwd").open("a") as file:
        file.write(f"app:x:{ID}:{ID}::/tmp:/usr/sbin/nologin\n")
    with Path("/etc/group").open("a") as file:
        file.write(f"app:x:{ID}:\n")


def remove_packages() -> None:
    """Remove the packages in `TOOLS` and their records; what is not installed is ignored."""
    status = DPKG / "status"
    kept, listed = [], set[str]()
    unwanted = set[str]()
    for record in status.read_text().strip().split("\n\n"):
        fields = dict(re.findall(r"^(Package|Architecture): (.+)$", record, re.MULTILINE))
        name = fields["Package"]
        names = [f"{name}:{fields['Architecture']}", name]
        files = next((p for n in names if (p := DPKG / f"info/{n}.list").exists()), None)
        content = set(files.read_text().splitlines()) if files else set()
        if TOOLS.fullmatch(name):
            unwanted |= content
        else:
            kept.append(record)
            listed |= content
    for file in sorted(unwanted - listed, reverse=True):
        path = Path(file)
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.is_dir():
            with contextlib.suppress(OSError):  # others have files in it
                path.rmdir()
    # Scripts of maintainers and lists of files are for dpkg.
    for path in (DPKG / "info").iterdir():
        path.unlink()
    for path in DPKG.iterdir():
        if path.name not in ("status", "info"):
            remove(path)
    status.write_text("\n\n".join(kept) + "\n")


def remove(path: Path) -> None:
    """Delete a file, a link or a folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


if __name__ == "__main__":
    main()
