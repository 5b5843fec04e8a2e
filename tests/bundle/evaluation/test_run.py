from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bundle.cli import app
from bundle.format.card import read_card
from bundle.format.manifest import read_manifest
from bundle.format.repository import verify_files
from tests.bundles import colour_picture, png
from tests.tiny_networks import LABELS

NAME = "tiny-torch"


@pytest.fixture
def bundle(torch_bundle_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(torch_bundle_root, tmp_path / "models")) / NAME / "1"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `test`, of 120 images of the classes, and `other`, of grey ones of two kinds."""
    root = tmp_path_factory.mktemp("images")
    for label in LABELS:
        (root / "test" / label).mkdir(parents=True)
        for seed in range(40):
            data = png(colour_picture(label, (32, 32), seed))
            (root / "test" / label / f"{seed}.png").write_bytes(data)
    for kind in ("grey", "dark"):
        (root / "other" / kind).mkdir(parents=True)
        for seed in range(10):
            picture = colour_picture("red", (32, 32), seed)
            picture[...] = 20 if kind == "dark" else 10 * seed
            (root / "other" / kind / f"{seed}.png").write_bytes(png(picture))
    return root


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.output


def test_the_next_version_records_what_was_measured(bundle: Path, images: Path) -> None:
    output = run(bundle, "--test", images / "test", "--other", images / "other", "--licence", "MIT")

    manifest = read_manifest(bundle.parent / "2")
    verify_files(bundle.parent / "2", manifest)
    found = manifest.rejection
    assert found is not None
    assert (found.artifact, found.samples) == ("torchscript-fp32", 120)
    assert [(each.kind, each.samples, each.unsure) for each in found.others] == [
        ("dark", 10, 1.0),
        ("grey", 10, 1.0),
    ]
    assert found.all_others is not None
    assert found.all_others.auroc == 1.0
    card = read_card(bundle.parent / "2/card.json")
    assert card.licence == "MIT"
    assert card.evaluations[0].confusion == [(0, 0, 40), (1, 1, 40), (2, 2, 40)]
    assert "all, 20 pictures: unsure 100.0%, AUROC 1.000" in output
    assert manifest.whole is not None
    # The images are square, so that the crop cuts nothing off them.
    assert (manifest.whole.samples, manifest.whole.accuracy) == (120, 1.0)
    assert "Whole pictures, stretched to the input: right for 100.0%" in output
    assert read_manifest(bundle).rejection is None


def test_in_place_only_the_record_and_the_card_change(bundle: Path, images: Path) -> None:
    before = read_manifest(bundle)

    run(bundle, "--test", images / "test", "--in-place", "--against", bundle)

    after = read_manifest(bundle)
    verify_files(bundle, after)
    assert not (bundle.parent / "2").exists()
    assert (after.version, after.created) == (before.version, before.created)
    assert {name: after.files[name] for name in before.files} == before.files
    assert set(after.files) - set(before.files) == {"card.json"}
    (comparison,) = read_card(bundle / "card.json").comparisons
    assert (comparison.model, comparison.agreement) == (f"{NAME}@1", 1.0)


def test_a_signed_bundle_is_not_changed_in_its_place(bundle: Path, images: Path) -> None:
    (bundle / "model.sig").write_text("{}")
    before = (bundle / "manifest.json").read_bytes()

    done = CliRunner().invoke(
        app, ["evaluate", str(bundle), "--test", str(images / "test"), "--in-place"]
    )

    assert done.exit_code == 1
    assert "signed" in done.output
    assert (bundle / "manifest.json").read_bytes() == before
    assert not (bundle / "card.json").exists()


def test_other_pictures_that_are_not_there_are_an_error(bundle: Path, images: Path) -> None:
    done = CliRunner().invoke(
        app, ["evaluate", str(bundle), "--test", str(images / "test"), "--other", "nowhere"]
    )

    assert done.exit_code == 1
    assert "Expected folders of pictures" in done.output
