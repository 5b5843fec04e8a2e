"""Quantize fp32 IR to int8: `python -m bundle.acceleration.quantize SOURCE TARGET CALIBRATION`.

Post-training quantization by NNCF. CALIBRATION is a `.npy` of uint8 [N, H, W, 3]: training images
after preprocessing, for the ranges of the activations. A process of its own, because NNCF imports
torch where that is installed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from bundle.runtimes.openvino import import_openvino


def main(source: Path, target: Path, calibration: Path) -> None:
    """Quantize the IR at `source` and write it to `target`."""
    ov = import_openvino()
    import nncf  # noqa: PLC0415 - heavy, and for this process only

    pixels = np.load(calibration)
    model = ov.Core().read_model(source)
    index = {"class_index": np.zeros(1, np.int64)} if len(model.inputs) > 1 else {}
    items = [{"pixels": image[None]} | index for image in pixels]
    quantized = nncf.quantize(
        model,
        nncf.Dataset(items),
        # Activations after ReLU are not negative: asymmetric for them, symmetric for the weights.
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(pixels),
    )
    ov.save_model(quantized, target, compress_to_fp16=False)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
