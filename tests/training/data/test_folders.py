from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.conftest import write_images
from tests.training.data.loading import load
from training.errors import DataError


def test_hidden_files_and_files_that_are_no_images_are_left_out(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "photos", 5)
    (folder / "red" / "notes.txt").write_text("no image")
    (folder / "red" / "._000.png").write_bytes(b"junk of another system")
    (folder / ".cache").mkdir()

    data = load(folder)

    assert len(data.classes) == 3
    assert len(data.train) + len(data.validation) + len(data.test) == 15
    (note,) = data.notes
    assert note == f"not an image by its suffix, left out: {folder / 'red' / 'notes.txt'}"


def test_junk_of_archives_and_file_managers_is_no_class_and_no_image(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "photos", 5)
    (folder / "__MACOSX" / "red").mkdir(parents=True)
    (folder / "__MACOSX" / "red" / "._000.png").write_bytes(b"resource fork")
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (folder / "red" / name).touch()

    data = load(folder)

    assert data.classes == ["blue", "green", "red"]
    assert data.notes == []


def test_a_class_folder_with_a_hidden_name_is_left_out_and_named(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "photos", 5)
    shutil.copytree(folder / "red", folder / ".violet")

    data = load(folder)

    assert data.classes == ["blue", "green", "red"]
    (note,) = data.notes
    assert note.startswith("hidden (the name begins with a dot), not taken as a class")
    assert note.endswith(f": {folder / '.violet'}")


def test_images_in_folders_below_a_class_are_left_out_and_named(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "photos", 5)
    (folder / "red" / "old").mkdir()
    shutil.copy(folder / "red" / "000.png", folder / "red" / "old" / "deep.png")

    data = load(folder)

    assert len(data.train) + len(data.validation) + len(data.test) == 15
    (note,) = data.notes
    assert note == f"in a sub-folder of a class, left out: {folder / 'red' / 'old' / 'deep.png'}"


def test_links_out_of_the_folder_are_followed_and_named(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "photos", 5)
    elsewhere = write_images(tmp_path / "elsewhere", 5, seed=9)
    (folder / "red" / "link.png").symlink_to(elsewhere / "red" / "000.png")
    (folder / "violet").symlink_to(elsewhere / "blue")

    data = load(folder)

    assert data.classes == ["blue", "green", "red", "violet"]
    assert len(data.train) + len(data.validation) + len(data.test) == 21
    (note,) = data.notes
    assert note.startswith(f"a link out of {folder}, followed: ")
    assert "link.png" in note
    assert "violet" in note


def test_images_beside_the_classes_and_folders_beside_the_splits_are_left_out_and_named(
    colour_folder: Path, tmp_path: Path
) -> None:
    folder = write_images(tmp_path / "photos", 5)
    shutil.copy(folder / "red" / "000.png", folder / "beside.png")
    shutil.copytree(colour_folder, tmp_path / "split")
    (tmp_path / "split" / "val").mkdir()

    assert load(folder).notes == [f"in no class folder, left out: {folder / 'beside.png'}"]
    assert load(tmp_path / "split").notes == [
        f"neither train nor test, left out: {tmp_path / 'split' / 'val'}"
    ]


def test_photos_of_trains_are_a_class_and_no_split(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "photos", 5)
    (folder / "red").rename(folder / "train")

    assert load(folder).classes == ["blue", "green", "train"]


def break_nothing_there(folder: Path) -> None:
    shutil.rmtree(folder)


def break_no_classes(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def break_empty_class(folder: Path) -> None:
    (folder / "train" / "violet").mkdir()
    (folder / "test" / "violet").mkdir()


def break_nested(folder: Path) -> None:
    for split in ("train", "test"):
        (folder / split / "nested" / "deeper").mkdir(parents=True)
        shutil.copy(folder / "train" / "red" / "000.png", folder / split / "nested" / "deeper")


def break_three_images(folder: Path) -> None:
    shutil.rmtree(folder)
    write_images(folder, 1)


def break_class_mismatch(folder: Path) -> None:
    shutil.move(folder / "test" / "red", folder / "test" / "rouge")


def break_no_test(folder: Path) -> None:
    shutil.rmtree(folder / "test")


def break_one_class(folder: Path) -> None:
    for split in ("train", "test"):
        for name in ("green", "red"):
            shutil.rmtree(folder / split / name)


def break_one_image(folder: Path) -> None:
    for file in sorted((folder / "train" / "red").iterdir())[1:]:
        file.unlink()


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (break_nothing_there, "There is no folder"),
        (break_no_classes, "no sub-folders"),
        (break_empty_class, "violet"),
        (break_nested, "nested.*move them up.*deeper"),
        (break_three_images, "training split.*no readable image.*blue, green, red"),
        (break_class_mismatch, "red, rouge"),
        (break_no_test, "no 'test'"),
        (break_one_class, "one class folder.*blue"),
        (break_one_image, "training split.*red"),
    ],
    ids=lambda value: value.__name__.removeprefix("break_") if callable(value) else "",
)
def test_a_data_set_that_cannot_be_used_is_refused_with_the_reason(
    tmp_path: Path, damage: Callable[[Path], None], text: str
) -> None:
    folder = tmp_path / "photos"
    write_images(folder / "train", 4)
    write_images(folder / "test", 2)
    damage(folder)

    with pytest.raises(DataError, match=text):
        load(folder)
