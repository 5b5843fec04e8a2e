"""Requests with something changed, as a defective client or a hostile one sends them."""

from __future__ import annotations

import copy
import random
from typing import Any

# In the place of a value of a JSON document.
ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 0.5, 2**31, 2**64, 10**30, 1e308, "", "0", "\0", "\ud800", "image"),
    *([], [[]], [[[[]]]], [None], {}, {"": {}}, ["x"] * 1000, [[0] * 32] * 32),
)


def mutated_bytes(generator: random.Random, data: bytes, head: int) -> bytes:
    """Bytes with some replaced, removed or added; the first `head` ones more often than others."""
    body = bytearray(data)
    for _ in range(generator.choice([1, 1, 1, 2, 8])):
        reach = len(body) if generator.random() < 0.2 else min(len(body), head)
        position = generator.randrange(reach + 1)
        # Most often the length stays, and the request may be valid.
        match generator.choice([0, 0, 0, 1, 2, 3]):
            case 0:
                body[position : position + 1] = generator.randbytes(1)
            case 1:
                del body[position : position + generator.randrange(1, 9)]
            case 2:
                body[position:position] = generator.randbytes(generator.randrange(1, 9))
            case _:
                start = generator.randrange(len(body) + 1)
                body[position:position] = body[start : start + generator.randrange(1, 200)]
    return bytes(body)


def mutated_document(generator: random.Random, document: Any) -> Any:
    """A JSON document with some values replaced, removed or repeated."""
    changed = copy.deepcopy(document)
    for _ in range(generator.choice([1, 1, 2, 4])):
        places = list(_places(changed))
        if not places:
            break
        holder, key = generator.choice(places)
        match generator.randrange(4):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, list):
                holder.insert(key, copy.deepcopy(holder[key]))
            case 2:
                other, name = generator.choice(places)
                holder[key] = copy.deepcopy(other[name])
            case _:
                holder[key] = copy.deepcopy(generator.choice(ODD))
    return changed


def _places(value: Any) -> Any:
    """Each place of a document: what holds it, and its key there. Long lists have few."""
    if isinstance(value, dict):
        keys: list[Any] = list(value)
    elif isinstance(value, list):
        keys = list(range(min(len(value), 4)))
    else:
        return
    for key in keys:
        yield value, key
        yield from _places(value[key])
