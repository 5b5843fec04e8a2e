from __future__ import annotations

import csv
import json
from io import BytesIO, StringIO

import pytest
from PIL import Image, ImageEnhance

from frontend.preview import preview
from frontend.samples import SAMPLES
from frontend.views.collection import (
    Picture,
    accuracy,
    as_csv,
    as_json,
    confusions,
    difference_hash,
    grouped,
    other_folders,
    truth,
)


def hashed(image: Image.Image, **options: int) -> int:
    out = BytesIO()
    image.convert("RGB").save(out, "JPEG", **options)
    thumbnail = preview(out.getvalue(), side=160)
    assert thumbnail is not None
    return difference_hash(thumbnail)


def test_copies_of_a_photo_are_grouped_and_other_photos_are_not() -> None:
    photos = [Image.open(BytesIO(sample.read())).convert("RGB") for sample in SAMPLES]
    cat = photos[0]
    copies = [
        cat.resize((cat.width // 2, cat.height // 2)),
        ImageEnhance.Brightness(cat).enhance(1.15),
    ]
    pictures = [Picture(str(i), hash=hashed(photo)) for i, photo in enumerate([*photos, *copies])]
    pictures.append(Picture("recompressed", hash=hashed(cat, quality=30)))

    found = grouped(pictures)

    assert [each.copies for each in found] == [1, 0, 0, 0, 0, 0, 1, 1, 1]


def test_a_picture_without_a_hash_is_in_no_group() -> None:
    assert [each.copies for each in grouped([Picture("a"), Picture("b")])] == [0, 0]
    assert grouped([]) == []


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("photos/cat/1.jpg", "cat"),
        ("photos/Golden_Retriever/1.jpg", "golden retriever"),
        ("n02123045_tabby/1.jpg", "tabby, tabby cat"),
        ("tabby-cat/1.jpg", "tabby, tabby cat"),
        ("cat\\1.jpg", "cat"),
        ("holiday/1.jpg", ""),
        ("cat.jpg", ""),
    ],
)
def test_a_folder_that_is_named_like_a_label_is_the_truth(path: str, label: str) -> None:
    assert truth(path, ["cat", "golden retriever", "tabby, tabby cat"]) == label


def test_accuracy_counts_known_truths_only_and_has_an_interval() -> None:
    right = [Picture(str(n), label="cat", truth="cat") for n in range(80)]
    wrong = [Picture(f"w{n}", label="dog", truth="cat") for n in range(20)]
    other = [Picture("x", label="dog"), Picture("y", refused="broken", truth="cat")]

    found = accuracy([*right, *wrong, *other])

    assert found is not None
    assert (found.right, found.samples) == (80, 100)
    # Wilson's interval of 80 of 100, as in R: prop.test(80, 100, correct = FALSE).
    assert (found.low, found.high) == pytest.approx((0.7112, 0.8666), abs=1e-4)
    assert confusions([*right, *wrong]) == [("cat", "dog", 20)]
    assert accuracy(other) is None


def test_downloads_have_every_picture_with_what_is_known_of_it() -> None:
    pictures = [
        Picture('a,"b"/1.jpg', label="cat", score=0.5, uncertain=True, truth="dog"),
        Picture("2.jpg", refused="not a picture"),
    ]

    rows = list(csv.DictReader(StringIO(as_csv(pictures))))
    documents = json.loads(as_json(pictures))

    assert [row["path"] for row in rows] == ['a,"b"/1.jpg', "2.jpg"]
    assert rows[0]["score"] == "0.5"
    assert documents[0]["uncertain"] is True
    assert documents[1] == {
        **dict.fromkeys(documents[1], None),
        "path": "2.jpg",
        "label": "",
        "refused": "not a picture",
    }


def test_a_cell_that_a_spreadsheet_would_run_has_a_quote_in_front_in_the_csv_alone() -> None:
    names = ["=1+1.jpg", "+1.jpg", "-1.jpg", "@a.jpg", "\t=1.jpg", "a=1.jpg"]
    pictures = [Picture(name, label="-cat", score=0.5) for name in names]

    rows = list(csv.DictReader(StringIO(as_csv(pictures))))

    assert [row["path"] for row in rows] == [*(f"'{name}" for name in names[:5]), "a=1.jpg"]
    assert {row["label"] for row in rows} == {"'-cat"}
    assert rows[0]["score"] == "0.5"
    assert [each["path"] for each in json.loads(as_json(pictures))] == names


def test_folders_that_are_no_label_are_known_by_name() -> None:
    pictures = [
        Picture("dogs/boxer/1.jpg", label="cat"),
        Picture("dogs/boxer/2.jpg", label="cat"),
        Picture("all\\Birds\\1.jpg", label="cat"),
        Picture("dogs/cat/1.jpg", label="cat", truth="cat"),
        Picture("notes/1.txt", refused="not a picture"),
        Picture("1.jpg", label="cat"),
    ]

    assert other_folders(pictures) == ["Birds", "boxer"]
