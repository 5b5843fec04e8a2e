"""Bytes to pixels: limits from the header, decoding, colour, resize and crop."""
