"""PyTorch files to TorchScript: `python -m bundle.importing.torch_child REQUEST`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bundle.errors import ImportFailed
from bundle.importing.architectures import find_network, usual_normalisation, usual_pixels
from bundle.importing.child import (
    Findings,
    Floats,
    normalised,
    sample_pixels,
    serve_request,
    set_input,
    set_logits,
    set_normalisation,
)
from bundle.importing.options import Options
from bundle.importing.programs import read_pt2, read_torchscript
from bundle.importing.served import classifier_of, save_served, with_features
from bundle.importing.torch_weights import (
    Weights,
    from_huggingface_resnet,
    read_pickle,
    read_safetensors,
)

if TYPE_CHECKING:
    from torch import nn

FILE = "model.pt"
ARTIFACT = {
    "id": "torchscript-fp32",
    "format": "torchscript",
    "path": FILE,
    "precision": "fp32",
    "source": True,
    "derivation": None,
    "speeds": [],
}
# Of images, for which a traced network must give the same as one by one.
CHECKED = 3
CLOSE = 1e-4


def read(kind: str, path: Path, options: Options, target: Path) -> Findings:
    """Read a file of PyTorch and write `model.pt` into `target`."""
    import torch  # noqa: PLC0415 - heavy, and for this process only
    import torchvision  # noqa: PLC0415

    versions = {"torch": str(torch.__version__), "torchvision": str(torchvision.__version__)}
    findings = Findings(ARTIFACT, {"name": "pytorch", "versions": versions})
    with torch.no_grad():
        if kind in ("torchscript", "pt2"):
            program = (read_torchscript if kind == "torchscript" else read_pt2)(
                path, options, findings
            )
            how = set_normalisation(
                findings, options, ("imagenet", "as of nearly all networks of PyTorch")
            )
            geometry = set_input(findings, options, program.size, USUAL)
            x = torch.from_numpy(normalised(sample_pixels(geometry), how, program.layout))
            set_logits(findings, options, program.forward(x).float().numpy(), target)
            save_served(
                program.module,
                target / FILE,
                how,
                layout=program.layout,
                probabilities=findings.outputs == "probabilities",
                pick=program.pick,
                batch=program.batch,
                linear=None,
            )
        else:
            _weights(_read_weights(kind, path), options, findings, target)
    return findings


USUAL: dict[str, Any] = {"size": 224, "resize": 256, "interpolation": "bilinear"}


def _read_weights(kind: str, path: Path) -> Weights:
    if kind == "huggingface":
        safe = path.read_bytes()[8:9] == b"{"
        found = read_safetensors(path) if safe else read_pickle(path)
        return Weights(from_huggingface_resnet(found.state), None, found.notes)
    return read_safetensors(path) if kind == "safetensors" else read_pickle(path)


def _weights(weights: Weights, options: Options, findings: Findings, target: Path) -> None:
    import torch  # noqa: PLC0415

    if options.layout == "NHWC":
        raise ImportFailed(
            "The input of a network of torchvision, timm or Hugging Face is NCHW. Expected no "
            "--layout with its weights. Received: NHWC"
        )
    state = weights.state
    if any(name.startswith("resnet.encoder.stages.") for name in state):
        state = from_huggingface_resnet(state)
    arch = options.arch.removesuffix(V1) if options.arch else None
    network = find_network(state, arch)
    module = network.module
    if options.arch and options.arch.endswith(V1):
        _downsample_in_first(module)
        network.notes.clear()
        network.notes.append("the 1x1 convolutions have the strides: v1")
    findings.notes += [*weights.notes, *network.notes]
    findings.labels = weights.labels
    findings.architecture = options.arch or network.name
    findings.parameters = sum(parameter.numel() for parameter in module.parameters())
    how = set_normalisation(findings, options, usual_normalisation(network.name))
    said = (network.image_size, network.image_size) if network.image_size else None
    geometry = set_input(findings, options, said, usual_pixels(network.name))
    x = torch.from_numpy(normalised(sample_pixels(geometry), how, "NCHW"))
    outputs = module(x)
    found = classifier_of(module, x[:1])
    if found:
        features: list[tuple[int, ...]] = []
        hook = found[1].register_forward_hook(lambda _m, _i, y: features.append(tuple(y.shape)))
        module(x[:1])
        hook.remove()
        _, channels, height, width = features[-1]
        findings.heatmap = {
            "method": "class_activation",
            "height": height,
            "width": width,
            "channels": channels,
        }
    set_logits(findings, options, outputs.numpy(), target)
    save_served(
        traced(with_features(module, found[1]) if found else module, x),
        target / FILE,
        how,
        layout="NCHW",
        probabilities=findings.outputs == "probabilities",
        pick=None,
        batch=0,
        linear=found[0] if found else None,
    )


# After the name of an architecture: the 1x1 convolutions have the strides, as in He et al. 2016.
V1 = "-v1"


def _downsample_in_first(module: nn.Module) -> None:
    for name in ("layer2", "layer3", "layer4"):
        block = getattr(module, name)[0]
        if hasattr(block, "conv3"):
            block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)


def traced(module: nn.Module, x: Any) -> Any:
    """The module as TorchScript that takes any number of images.

    Raises:
        ImportFailed: Its trace gives something else.
    """
    import torch  # noqa: PLC0415

    with warnings.catch_warnings():
        # Checks of shapes become constants, and the comparison below is the stricter check.
        warnings.simplefilter("ignore")
        found = torch.jit.trace(  # type: ignore[no-untyped-call]
            module, x[:2], strict=False, check_trace=False
        )
    alone = _logits(module(x[:1])), _logits(found(x[:1]))
    many = _logits(module(x[:CHECKED])), _logits(found(x[:CHECKED]))
    difference = max(float(np.abs(a - b).max()) for a, b in (alone, many))
    if not difference < CLOSE * max(1.0, float(np.abs(many[0]).max())):
        raise ImportFailed(
            "The network does something else when it is traced, so it depends on the image in a "
            f"way that TorchScript can't record. Export it as ONNX. Received: {difference:.2g}"
        )
    return found


def _logits(output: Any) -> Floats:
    found: Floats = (output[0] if isinstance(output, tuple) else output).numpy()
    return found


if __name__ == "__main__":
    serve_request(read)
