"""What the visitor has chosen: the picture, kept in the session, and the options in the address."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import uuid4

import streamlit as st

from frontend.samples import SAMPLES, Sample

MOST_BYTES = 20_000_000  # as the service's own limit, so that a larger file is not sent at all


@dataclass(frozen=True)
class InputImage:
    """An encoded file, sent to the service as it is.

    Attributes:
        name: the file's name.
        data: the file's bytes.
        sample: the sample that it is; None for a picture of the visitor.
        serial: of the picture in the browser, so that it knows which one was answered.
    """

    name: str
    data: bytes
    sample: Sample | None = None
    serial: int = 0

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the bytes, in hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()


def chosen() -> InputImage | None:
    """The visitor's picture; the sample of the address, or the first one, before there is any.

    None after a file that the page itself refused.
    """
    if "image" not in st.session_state:
        asked = st.query_params.get("sample", SAMPLES[0].name)
        take_sample(asked)
        if asked not in {each.name for each in SAMPLES}:
            st.session_state["unknown-sample"] = asked
    image: InputImage | None = st.session_state["image"]
    return image


def serial() -> int:
    """Number of the picture that the browser sent last."""
    return int(st.session_state.get("serial", 0))


def session() -> str:
    """Name of this session, by which the browser sees that the server has forgotten the last."""
    return str(st.session_state.setdefault("session", uuid4().hex))


def unknown_sample() -> str:
    """The sample of the address that does not exist, until another picture is chosen."""
    return str(st.session_state.get("unknown-sample", ""))


def unknown_models(view: str, found: list[str], *, changed: bool) -> list[str]:
    """The models of the address that are not ready, until the visitor chooses another one.

    Args:
        view: that the address is of.
        found: names of this run; the address has only ready ones from the next run on.
        changed: the visitor has chosen.
    """
    if found:
        st.session_state[f"unknown-{view}"] = found
    elif changed:
        st.session_state.pop(f"unknown-{view}", None)
    return list(st.session_state.get(f"unknown-{view}", ()))


def take_sample(name: str) -> None:
    """Choose the sample `name`; the first one if there is none of that name."""
    st.session_state.pop("unknown-sample", None)
    sample = next((each for each in SAMPLES if each.name == name), SAMPLES[0])
    st.session_state["image"] = InputImage(sample.file, sample.read(), sample, serial())


def take_file(sent: dict[str, Any]) -> None:
    """Choose the file that the browser sent; without data it was refused there, as too large."""
    st.session_state["serial"] = number = int(sent["serial"])
    st.session_state.pop("unknown-sample", None)
    try:
        data = base64.b64decode(sent["data"], validate=True) if sent["data"] else None
    except (binascii.Error, ValueError):
        data = None
    name = str(sent["name"])
    # An empty file is one: the service says what is wrong with it.
    refused = data is None and sent["data"] is None
    st.session_state["image"] = None if refused else InputImage(name, data or b"", None, number)


def option(name: str, default: str = "") -> str:
    """An option of the address that this visit came with; the session's own value counts more."""
    return str(st.session_state.get(f"option-{name}", st.query_params.get(name, default)))


def set_option(name: str, value: str) -> None:
    """Keep an option for this visit."""
    st.session_state[f"option-{name}"] = value


def write_address(options: dict[str, str]) -> None:
    """Put the options that are not empty into the address, so that it restores this view."""
    wanted = {name: value for name, value in options.items() if value}
    if st.query_params.to_dict() != wanted:
        st.query_params.from_dict(wanted)
