"""The block structure of a GIF file: how many frames it has, counted without decoding one."""

from __future__ import annotations

import struct

from bundle.imaging.jpeg import absurd

MAX_GIF_BLOCKS = 200_000
"""Data sub-blocks of a GIF; 20 MB in the usual 255 bytes are 78,000."""

_EXTENSION, _FRAME = 0x21, 0x2C


def read_gif(data: bytes, max_frames: int) -> tuple[int, int, int]:
    """Width and height of the screen, and the number of frames, counted to ``max_frames + 1`` at most.

    Pillow's own count decodes every frame. The first frame may reach beyond the screen; Pillow then enlarges
    it, and the caller judges again. Raises :class:`UnreadableImage` for a file made to be slow,
    ``struct.error`` for one that ends inside its header. A file cut off later is left to the decoder.
    """
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + _table_bytes(flags)
    frames = blocks = 0
    size = len(data)
    while at < size and data[at] in (_EXTENSION, _FRAME) and frames <= max_frames:
        if data[at] == _FRAME:
            frames += 1
            if at + 9 >= size:
                break
            at += 11 + _table_bytes(data[at + 9])  # the descriptor, its colours, the code size
        else:
            at += 2
        while at < size and data[at]:
            at += 1 + data[at]
            blocks += 1
            if blocks > MAX_GIF_BLOCKS:
                raise absurd("GIF", f"more than {MAX_GIF_BLOCKS} blocks")
        at += 1
    return width, height, frames


def _table_bytes(flags: int) -> int:
    """Size of the colour table that the flags of a descriptor announce."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0
