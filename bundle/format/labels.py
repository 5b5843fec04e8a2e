"""The 1,000 classes of ImageNet (ILSVRC 2012), in the order of every published classifier."""

from __future__ import annotations

from importlib.resources import files


def imagenet_labels() -> tuple[list[str], list[str]]:
    """The names of the classes, and their WordNet ids in ascending order, as n02123045.

    The names are the first ones of WordNet 3.0, as in torchvision, but for eleven that are
    ambiguous alone: "crane (bird)" and "crane (machine)", "tabby cat", "kite (bird)".
    """
    text = files("bundle.format").joinpath("imagenet.tsv").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines()]
    return [label for _, label in rows], [wordnet_id for wordnet_id, _ in rows]
