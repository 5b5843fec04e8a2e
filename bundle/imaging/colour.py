"""Any Pillow mode to 8-bit RGB, with the names of the conversions applied."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

# Rows converted at a time, so that a wide number type never exists for a whole image.
_ROWS = 256


def to_rgb(image: Image.Image, bits: int = 8) -> tuple[Image.Image, list[str]]:
    """Convert a loaded image to mode RGB.

    Transparency is laid over white. 16-bit samples keep their high byte, as Pillow does for 16-bit
    colour. 32-bit and floating samples are taken as 0..255, 0..65535 or 0..1 when they fit, else
    stretched from their smallest to their largest value.

    Args:
        image: Any mode.
        bits: Bits per sample as stored, where the file states them (PNG); the transparent colour is
            given in this depth.

    Returns:
        The image in mode RGB, and the names of the operations in order.

    Raises:
        ValueError: A sample is NaN or infinite.
    """
    operations: list[str] = []
    mode = image.mode
    if bits == 16 and mode in ("RGB", "RGBA"):
        operations.append("16_bit_to_8_bit")
    key = image.info.get("transparency")
    if mode.startswith("I;16"):
        operations.append("16_bit_to_8_bit")
        image = _from_16_bit(image, key)
    elif mode in ("I", "F"):
        operations.append("float_to_8_bit" if mode == "F" else "32_bit_to_8_bit")
        image = _from_wide(image)
    elif mode in ("1", "L", "RGB") and key is not None:
        # Pillow has already brought that of mode "1" to 0 or 255.
        if mode != "1":
            image.info["transparency"] = _scaled_key(key, bits)
        image = image.convert("RGBA")
    elif (mode == "P" and key is not None) or mode in ("LA", "La", "PA", "RGBa"):
        image = image.convert("RGBA")
    if image.mode == "RGBA":
        flat = Image.new("RGB", image.size, (255, 255, 255))
        flat.paste(image, mask=image.getchannel("A"))
        return flat, [*operations, "alpha_over_white"]
    if image.mode == "RGB":
        return image, operations
    converted = image.convert("RGB")
    names = {"L": "grey_to_rgb", "1": "bilevel_to_rgb", "P": "palette_to_rgb"}
    return converted, [*operations, names.get(image.mode, f"{image.mode.lower()}_to_rgb")]


def _scaled_key(key: object, bits: int) -> object:
    """The transparent colour of a PNG, given in `bits`, as the 8-bit value that Pillow uses."""
    if isinstance(key, tuple):
        return tuple(_scaled_sample(part, bits) for part in key)
    return _scaled_sample(key, bits) if isinstance(key, int) else key


def _scaled_sample(value: int, bits: int) -> int:
    if bits == 16:
        return value >> 8
    return value * 255 // ((1 << bits) - 1) if bits in (2, 4) else value & 0xFF


def _from_16_bit(image: Image.Image, key: object) -> Image.Image:
    """High byte of each 16-bit grey sample; RGBA when one value, `key`, is transparent."""
    # Native byte order, whatever the order in the file.
    values = np.asarray(image).astype(np.uint16, copy=False)
    grey = Image.fromarray((values >> 8).astype(np.uint8))
    if not isinstance(key, int):
        return grey
    alpha = Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))
    return Image.merge("LA", (grey, alpha)).convert("RGBA")


def _from_wide(image: Image.Image) -> Image.Image:
    """32-bit integer or float samples to L."""
    values: npt.NDArray[np.int32 | np.float32] = np.asarray(image)
    if not np.isfinite(values).all():
        raise ValueError("a sample is NaN or infinite")
    low, high = float(values.min()), float(values.max())
    fits = (1.0, 255.0) if image.mode == "F" else (255.0, 65_535.0)
    if low >= 0 and high <= fits[-1]:
        low, high = 0.0, next(top for top in fits if high <= top)
    span = (high - low) or 1.0
    grey = np.empty(values.shape, dtype=np.uint8)
    for start in range(0, len(values), _ROWS):
        part = values[start : start + _ROWS].astype(np.float64)
        grey[start : start + _ROWS] = np.rint((part - low) * (255.0 / span))
    return Image.fromarray(grey)
