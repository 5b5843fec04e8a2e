from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.training.conftest import write_images
from training.data.survey import survey
from training.errors import DataError


def test_a_folder_is_counted_and_its_images_are_measured_by_their_headers(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "photos", 5)
    Image.new("L", (900, 700)).save(folder / "red" / "large.png")
    (folder / "red" / "broken.jpg").write_bytes(b"\xff\xd8 cut")

    seen = survey(folder)

    assert seen.counts == {"blue": 5, "green": 5, "red": 7}
    assert (seen.images, seen.test, seen.side) == (17, None, 16)
    assert seen.imbalance == 7 / 5


def test_a_given_test_split_is_counted_by_itself(colour_folder: Path) -> None:
    seen = survey(colour_folder)

    assert (seen.counts["red"], seen.test, seen.images) == (40, 30, 150)


def test_a_folder_with_another_image_is_other_data(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "photos", 5)
    before, again = survey(folder).digest, survey(folder).digest
    Image.new("L", (20, 20)).save(folder / "red" / "new.png")

    assert before == again != survey(folder).digest


def test_a_folder_without_one_readable_image_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(3):
            (tmp_path / name / f"{i}.jpg").write_text("no image")

    with pytest.raises(DataError, match=r"None of 6 sampled images can be read.*0\.jpg"):
        survey(tmp_path)
