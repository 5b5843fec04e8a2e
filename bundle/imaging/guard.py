"""Exceptions of a decoding library become `ImageError`; its warnings are dropped."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, UnidentifiedImageError

from bundle.errors import ImageError, ImageTooLarge, UnreadableImage


@contextmanager
def image_errors(kind: str, size: int, max_pixels: int) -> Iterator[None]:
    """Turn whatever is raised for a file of format `kind` and `size` bytes into an `ImageError`.

    Safe for concurrent use.
    """
    try:
        with _quiet_pillow():
            yield
    except ImageError:
        raise
    except Image.DecompressionBombError as exc:
        raise ImageTooLarge(
            f"The image has too many pixels. Expected at most {max_pixels:,}; send a "
            f"smaller image. Received: {exc}"
        ) from exc
    except MemoryError as exc:
        raise out_of_memory(kind) from exc
    # Pillow raises OSError, ValueError, TypeError, SyntaxError, OverflowError, struct.error, ...
    except Exception as exc:
        text = " ".join(str(exc).split())[:200] or type(exc).__name__
        if isinstance(exc, UnidentifiedImageError):
            text = "invalid header"
        raise UnreadableImage(
            f"The {kind} file is truncated or corrupt. Send a file that opens in an image viewer. "
            f"Received: {size} bytes; decoder error: {text}"
        ) from exc


def out_of_memory(kind: str) -> UnreadableImage:
    """The error for an image of format `kind` that does not fit into the memory."""
    return UnreadableImage(
        f"Decoding the {kind} image needs more memory than is available. Send a smaller one."
    )


_quiet_lock = threading.Lock()
_quiet_users = 0
_quiet_filters: warnings.catch_warnings[None] | None = None


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Ignore the warnings of Pillow's modules while any thread is decoding.

    `warnings.catch_warnings` alone restores a wrong state when threads interleave, hence the count.
    """
    global _quiet_users, _quiet_filters
    with _quiet_lock:
        if _quiet_users == 0:
            _quiet_filters = warnings.catch_warnings()
            _quiet_filters.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\.|bundle\.imaging\.")
        _quiet_users += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_users -= 1
            if _quiet_users == 0 and _quiet_filters is not None:
                _quiet_filters.__exit__(None, None, None)
                _quiet_filters = None
