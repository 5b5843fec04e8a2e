"""PyTorch files of every kind: the imported bundle gives the logits of the network."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bundle.importing.importing import LABELS, assert_refused, assert_serves, imported, run

SIZE = 64
FILES = {
    # file: (kind, options, what the output says)
    "legacy": ("state_dict", ["--size", "64"], "shufflenet_v2_x0_5"),
    "lightning.ckpt": (
        "state_dict",
        ["--size", "64", "--labels", LABELS],
        "not of the network: loss.weight",
    ),
    "weights.safetensors": ("safetensors", ["--size", "64", "--labels", LABELS], "Assumed: "),
    "averaged.pth": ("state_dict", ["--size", "64", "--labels", LABELS], "averaged weights"),
    "replaced_head.pth": ("state_dict", ["--size", "64", "--labels", LABELS], "mobilenet_v2"),
    "traced.pt": ("torchscript", ["--labels", LABELS], "input 64x64"),
    "one_image.pt": ("torchscript", ["--labels", LABELS, "--size", "64"], "input 64x64"),
    "program.pt2": ("pt2", ["--labels", LABELS], "input 64x64"),
    "hf": ("huggingface", [], "v1"),
    "archive.mar": ("torchscript", [], "input 64x64"),
}
# Elements of an embedding; None: the program takes one image at a time, in a loop.
DIMENSIONS = {
    "averaged.pth": 440,
    "replaced_head.pth": 1280,
    "one_image.pt": None,
    "program.pt2": None,
    "hf": 2048,
}
PROGRAMS = ("traced.pt", "one_image.pt", "program.pt2", "archive.mar")


@pytest.mark.parametrize("file", FILES)
def test_the_bundle_serves_the_logits_of_the_network(
    file: str, torch_files: Path, tmp_path: Path
) -> None:
    kind, options, said = FILES[file]

    bundle, manifest, output = imported(torch_files / file, tmp_path / "models", *options)

    assert said in output
    assert manifest.labels == ["ant", "bee", "cat"]
    assert manifest.imported is not None
    assert manifest.imported.kind == kind
    assert (manifest.heatmap_size is None) == (file in PROGRAMS)
    if kind == "huggingface":
        # What the folder says is not assumed.
        assert manifest.imported.assumed == []
        assert manifest.architecture.name == "resnet50-v1"
        assert manifest.input.resize.model_dump() == {
            "rule": "shorter_side",
            "size": 73,
            "interpolation": "bicubic",
        }
    dimension = assert_serves(bundle, torch_files / f"{file}.npy", SIZE)
    assert dimension == DIMENSIONS.get(file, 1024)


REFUSED = {
    "optimizer.pt": "optimizer",
    "whole.pt": "whole model",
    "truncated.pt": "damaged or cut off",
    "detector.pth": "detection",
    "regression.pt": "one output",
    "segmenter.pt": "no image classifier",
}


@pytest.mark.parametrize("file", REFUSED)
def test_what_is_no_classifier_is_refused_with_one_sentence(
    file: str, torch_files: Path, tmp_path: Path
) -> None:
    models = tmp_path / "models"

    code, output = run(str(torch_files / file), "--models", str(models), "--labels", LABELS)

    assert_refused(models, code, output, REFUSED[file])


def test_a_wrong_number_of_labels_is_refused(torch_files: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"

    code, output = run(str(torch_files / "seven.pth"), "--models", str(models), "--labels", LABELS)

    assert_refused(models, code, output, "7 classes", "3 labels")


def test_labels_are_asked_for_by_the_name_of_the_option(torch_files: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"

    code, output = run(str(torch_files / "traced.pt"), "--models", str(models))

    assert_refused(models, code, output, "3 classes", "--labels FILE")


def test_another_architecture_is_refused(torch_files: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"

    code, output = run(
        *(str(torch_files / "plain.bin"), "--models", str(models), "--labels", LABELS),
        *("--arch", "resnet18"),
    )

    assert_refused(models, code, output, "do not fit --arch resnet18")


def test_what_an_option_cannot_change_is_said(torch_files: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    weights = str(torch_files / "plain.bin"), "--models", str(models)

    assert_refused(models, *run(*weights, "--labels", LABELS, "--layout", "NHWC"), "is NCHW")
    assert_refused(models, *run(*weights, "--labels", "price"), "two or more labels", "'price'")
