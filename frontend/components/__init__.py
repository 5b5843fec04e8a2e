"""Components of the page in JavaScript: what Streamlit has no element for.

Each is a Streamlit component of version 2: it gets data, draws it without another request, and
sends what the visitor does as triggers. They never put text in as markup.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

FOLDER = Path(__file__).parent


def _text(*names: str) -> str:
    return "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in names)


_scene = st.components.v2.component(
    "page.scene",
    js=_text("elements.js", "intake.js", "picture.js", "answer.js", "scene.js"),
    css=_text("scene.css"),
)
_corner = st.components.v2.component(
    "page.corner", js=_text("elements.js", "corner.js"), css=_text("corner.css")
)
_many = st.components.v2.component(
    "page.many", js=_text("elements.js", "many.js"), css=_text("many.css")
)
_grid = st.components.v2.component(
    "page.grid", js=_text("elements.js", "grid.js"), css=_text("many.css")
)


def scene(key: str, data: dict[str, Any], **triggers: Callable[[Any], None]) -> None:
    """Draw the picture with its panel.

    Args:
        key: of the component; a view has its own.
        data: what `scene.js` draws.
        triggers: by name (`file`, `sample`, `view`, `action`), what is called with its value.
    """
    _mount(_scene, key, data, triggers)


def many(key: str, data: dict[str, Any], **triggers: Callable[[Any], None]) -> None:
    """Draw the way in for many pictures.

    Args:
        key: of the component.
        data: what `many.js` draws.
        triggers: `files` gets a few files at a time; `stop`.
    """
    _mount(_many, key, data, triggers)


def grid(key: str, data: dict[str, Any], **triggers: Callable[[Any], None]) -> None:
    """Draw thumbnails with their answers; the trigger `open` gets the file of one."""
    _mount(_grid, key, data, triggers)


def corner(key: str, data: dict[str, Any], **triggers: Callable[[Any], None]) -> None:
    """Draw the state of the service and the choice of language into the header."""
    _mount(_corner, key, data, triggers)


def _mount(
    component: Any, key: str, data: dict[str, Any], triggers: dict[str, Callable[[Any], None]]
) -> None:
    def caller(name: str) -> Callable[[], None]:
        def call() -> None:
            value = st.session_state[key].get(name)
            if value is not None:
                triggers[name](value)

        return call

    component(key=key, data=data, **{f"on_{name}_change": caller(name) for name in triggers})
