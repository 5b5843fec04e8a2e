from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.training.conftest import write_images
from tests.training.data.loading import load
from training.data.duplicates import write_list
from training.errors import DataError


def test_given_splits_are_kept_and_validation_comes_out_of_training(colour_folder: Path) -> None:
    data = load(colour_folder)

    assert data.classes == ["blue", "green", "red"]
    assert (len(data.train), len(data.validation), len(data.test)) == (108, 12, 30)
    assert np.bincount(data.validation.labels).tolist() == [4, 4, 4]
    assert not {*data.train.files} & {*data.validation.files}


def test_pixels_are_those_of_the_files(colour_folder: Path) -> None:
    data = load(colour_folder)

    for i in (0, 50, 107):
        assert np.array_equal(data.train.pixels[i], np.asarray(Image.open(data.train.files[i])))
        assert data.classes[data.train.labels[i]] == data.train.files[i].parent.name


def test_a_folder_without_splits_is_divided_by_class_and_always_the_same_way(
    tmp_path: Path,
) -> None:
    folder = write_images(tmp_path / "photos", 20)

    data, again, other = load(folder), load(folder), load(folder, seed=1)

    assert np.bincount(data.test.labels).tolist() == [4, 4, 4]
    assert not {*data.train.files} & {*data.test.files}
    assert data.fingerprint() == again.fingerprint() != other.fingerprint()


def test_limits_draw_each_class_by_its_share_and_always_the_same_way(colour_folder: Path) -> None:
    (data, again, other) = (
        load(colour_folder, train_limit=30, test_limit=8, seed=s) for s in (0, 0, 1)
    )

    assert len(data.train) + len(data.validation) == 30
    assert np.bincount(np.concatenate([data.train.labels, data.validation.labels])).tolist() == [
        10,
        10,
        10,
    ]
    assert sorted(np.bincount(data.test.labels)) == [2, 3, 3]
    assert data.fingerprint() == again.fingerprint() != other.fingerprint()


def test_limits_hold_where_the_split_is_made_and_keep_rare_classes(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "photos", 20)
    for file in sorted((folder / "red").iterdir())[3:]:
        file.unlink()

    data = load(folder, train_limit=30, test_limit=3, validation_fraction=0.01)

    assert len(data.train) + len(data.validation) == 30
    assert np.bincount(data.train.labels, minlength=3).min() == 1
    assert np.bincount(data.test.labels).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("per_class", "share", "held_out"), [(60, 0.1, 15), (125, 0.07, 21), (450, 0.02, 21)], ids=str
)
def test_few_images_give_more_of_them_to_the_validation_split_and_the_test_split_stays(
    per_class: int, share: float, held_out: int, tmp_path: Path
) -> None:
    folder = write_images(tmp_path / "photos", per_class, size=8)
    options: dict[str, Any] = {"image_size": 8, "validation_fraction": 0.02}

    said, grown = load(folder, **options), load(folder, **options, max_validation=0.1)

    assert (grown.validation_fraction, len(grown.validation)) == (share, held_out)
    assert len(np.unique(np.bincount(grown.validation.labels))) == 1, "each class has its share"
    assert said.validation_fraction == 0.02
    assert grown.test.files == said.test.files


def test_a_limit_below_the_number_of_classes_is_refused(colour_folder: Path) -> None:
    with pytest.raises(DataError, match=r"Expected 3 or more\. Received: 2"):
        load(colour_folder, train_limit=2)


def test_images_of_other_sizes_and_modes_are_brought_to_the_input_size(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "photos", 5)
    Image.new("L", (300, 200), 128).save(folder / "red" / "grey.jpg")
    Image.new("RGBA", (20, 90), (255, 0, 0, 128)).save(folder / "red" / "alpha.png")

    data = load(folder)

    assert data.train.pixels.shape[1:] == (16, 16, 3)
    assert len(data.train) + len(data.validation) + len(data.test) == 17


def test_an_unreadable_image_is_named_and_stops_the_run(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "photos", 5)
    (folder / "green" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n but no more")

    with pytest.raises(DataError, match=r"--skip-unreadable.*bad\.png"):
        load(folder)


def test_an_unreadable_image_is_named_and_skipped_on_request(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "photos", 5)
    (folder / "green" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n but no more")

    data = load(folder, skip_unreadable=True)

    assert len(data.notes) == 1
    assert "bad.png" in data.notes[0]


def test_copies_of_an_image_stay_in_one_split(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "photos", 6)
    for i in range(20):
        shutil.copy(folder / "red" / "000.png", folder / "red" / f"copy-{i}.png")

    for seed in range(5):
        data = load(folder, seed=seed)

        copied = [
            any(file.name.startswith("copy-") for file in split.files)
            for split in (data.train, data.validation, data.test)
        ]
        assert sum(copied) == 1
        assert data.notes == []


def test_an_image_of_two_given_splits_or_of_two_classes_is_named(tmp_path: Path) -> None:
    train = write_images(tmp_path / "photos" / "train", 6, seed=1)
    test = write_images(tmp_path / "photos" / "test", 3, seed=2)
    shutil.copy(train / "red" / "003.png", test / "red" / "again.png")
    shutil.copy(train / "blue" / "001.png", train / "green" / "wrong.png")

    shared, contradicting = load(tmp_path / "photos").notes

    assert shared.startswith("1 x the same pixels in two splits")
    assert f"{test / 'red' / 'again.png'} (test) = {train / 'red' / '003.png'}" in shared
    assert contradicting.startswith("1 x the same pixels under two labels")
    assert "wrong.png (green)" in contradicting or "001.png (blue)" in contradicting


def test_every_duplicate_is_in_the_list_and_the_first_ones_in_the_note(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "photos", 9)
    for i in range(5):
        shutil.copy(folder / "blue" / f"{i:03}.png", folder / "green" / f"wrong-{i}.png")

    data = load(folder)
    write_list(data.duplicates, tmp_path / "run" / "duplicates.csv")

    (note,) = [note for note in data.notes if "two labels" in note]
    assert note.startswith("5 x the same pixels under two labels")
    assert note.count(".png") == 2 * 3
    with (tmp_path / "run" / "duplicates.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5
    assert {frozenset((row["label"], row["first_label"])) for row in rows} == {
        frozenset(("blue", "green"))
    }
    files = {Path(row[name]).name for row in rows for name in ("file", "first_file")}
    assert files == {name for i in range(5) for name in (f"{i:03}.png", f"wrong-{i}.png")}


def test_a_link_that_leads_nowhere_is_an_unreadable_image(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "photos", 5)
    (folder / "red" / "gone.png").symlink_to(tmp_path / "gone.png")

    with pytest.raises(DataError, match=r"--skip-unreadable.*gone\.png"):
        load(folder)


def test_a_link_to_itself_is_an_unreadable_image(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "photos", 5)
    (folder / "red" / "loop.png").symlink_to("loop.png")

    with pytest.raises(DataError, match=r"--skip-unreadable.*loop\.png"):
        load(folder)
    assert len(load(folder, skip_unreadable=True).classes) == 3
