"""The labels of ImageNet."""

from __future__ import annotations

from bundle.format.labels import imagenet_labels


def test_imagenet_has_a_thousand_labels_that_differ_in_more_than_case() -> None:
    labels, ids = imagenet_labels()

    assert len(labels) == len(ids) == 1000
    assert len({label.casefold() for label in labels}) == 1000
    assert ids == sorted(set(ids)), "every published classifier has this order"
    assert not any("_" in label for label in labels)


def test_words_with_two_meanings_are_told_apart() -> None:
    labels, ids = imagenet_labels()

    named = dict(zip(ids, labels, strict=True))
    assert named["n02012849"] == "crane (bird)"
    assert named["n03126707"] == "crane (machine)"
    assert named["n02123045"] == "tabby cat"
