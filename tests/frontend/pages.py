"""The page in Streamlit's own AppTest, and what its components were given to draw."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from typing import Any

import requests
from PIL import Image
from streamlit.testing.v1 import AppTest

from frontend.choice import InputImage
from frontend.client import ServiceClient


def page(client: "ServiceClient | None") -> None:  # noqa: UP037 - see below
    # Streamlit runs the source of this function as a script without the imports of this file.
    from frontend.app import main  # noqa: PLC0415

    main(client)


def view(client: "ServiceClient", name: str) -> None:  # noqa: UP037 - as above
    # Pages of st.navigation that are functions can't be opened by AppTest.
    from importlib import import_module  # noqa: PLC0415

    from frontend.visit import open_visit  # noqa: PLC0415
    from frontend.words import ENGLISH  # noqa: PLC0415

    visit = open_visit(client, ENGLISH, "http://service.example", needs_key=False)
    import_module(f"frontend.views.{name}").draw(visit)


def opened(client: ServiceClient | None, name: str = "", **query: str) -> AppTest:
    """The page as a visitor opens it; or the view `name` alone."""
    app = (
        AppTest.from_function(view, args=(client, name), default_timeout=90)
        if name
        else AppTest.from_function(page, args=(client,), default_timeout=90)
    )
    for key, value in query.items():
        app.query_params[key] = value
    return app.run()


def drawn(app: AppTest, kind: str = "scene") -> dict[str, Any]:
    """What the component `kind` was given."""
    (found,) = (
        element.proto.json
        for element in app.get("bidi_component")
        if element.proto.component_name == f"page.{kind}"
    )
    data: dict[str, Any] = json.loads(found)
    return data


def panel(app: AppTest) -> dict[str, Any]:
    """What stands beside the picture."""
    found: dict[str, Any] = drawn(app)["panel"]
    return found


def upload(app: AppTest, name: str, data: bytes) -> AppTest:
    """Choose a file, as `choice.take_file` does with what the browser sends."""
    serial = app.session_state["serial"] + 1 if "serial" in app.session_state else 1
    app.session_state["serial"] = serial
    app.session_state["image"] = InputImage(name, data, None, serial)
    return app.run()


def sent(name: str, data: bytes | None, serial: int = 1) -> dict[str, Any]:
    """A file as the browser sends it."""
    text = None if data is None else base64.b64encode(data).decode()
    return {"name": name, "data": text, "serial": serial}


def messages(app: AppTest) -> str:
    """All messages of the page, without the backslashes that escape Markdown."""
    texts = [element.value for element in [*app.error, *app.warning, *app.info, *app.success]]
    return "\n".join(texts).replace("\\", "")


def tiff() -> bytes:
    """A file that browsers do not show."""
    out = BytesIO()
    Image.new("CMYK", (164, 148)).save(out, "TIFF")
    return out.getvalue()


def broken() -> requests.Response:
    """A connection that fails."""
    raise requests.ConnectionError("refused")
