from __future__ import annotations

from pathlib import Path

import pytest

from bundle.files import check_writable


def test_a_folder_is_created_and_left_empty(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"

    check_writable(folder)

    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["file", "file/folder"])
def test_a_file_in_the_way_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(OSError, match="file"):
        check_writable(tmp_path / name)


def test_a_folder_that_takes_no_file_is_an_error() -> None:
    with pytest.raises(OSError, match="/proc"):
        check_writable(Path("/proc"))
