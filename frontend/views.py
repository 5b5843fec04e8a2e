"""The parts of the page that both views share: each function draws one."""

from __future__ import annotations

from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.elements.lib.mutable_tab_container import TabContainer

from frontend import preview
from frontend.client import ServiceClient, ServiceError
from frontend.image import InputImage, file_size, operation_text, stored_as
from frontend.messages import escaped, message
from frontend.responses import ImageRead, ModelList, ModelSummary
from frontend.samples import FOLDER, SAMPLES, Sample
from frontend.settings import SettingsError

FILE_TYPES = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "heic", "heif", "avif"]
FRAMEWORKS = {"pytorch": "PyTorch", "tensorflow": "Keras / TensorFlow", "onnx": "ONNX"}
STATE_COLOURS = {"ready": "green", "loading": "orange", "restarting": "orange", "refused": "red"}
CHECK_AGAIN_S = 4.0


def configure() -> None:
    """Set the page's name, icon and width; Streamlit requires this call to come first."""
    st.set_page_config(
        page_title="What is in this picture?",
        page_icon=str(FOLDER / "airplane.jpg"),
        layout="wide",
    )


def sheet() -> DeltaGenerator:
    """The container of the whole page: a readable width on a wide screen, full width on a phone."""
    return st.container(horizontal_alignment="center").container(width=1120)


def title() -> None:
    """The heading, and one sentence about the models."""
    st.title("What is in this picture?", anchor=False)
    st.markdown(
        "Image classifiers in PyTorch, Keras and other frameworks, served by one HTTP service."
    )


def columns() -> tuple[DeltaGenerator, DeltaGenerator]:
    """The image on the left and the predictions on the right; stacked on a phone."""
    left, right = st.columns([5, 8], gap="large")
    return left, right


def tabs() -> tuple[TabContainer, TabContainer]:
    """One model, or all of them. Only the open tab runs, so only its requests are sent."""
    one, several = st.tabs(["One model", "Compare models"], on_change="rerun", key="view")
    return one, several


def state(model_list: ModelList) -> None:
    """One line: the service is ready, and how many models are in each state."""
    counts = {
        name: sum(model.state == name for model in model_list.models) for name in STATE_COLOURS
    }
    with st.container(horizontal=True, gap="small"):
        st.badge("Service ready", icon=":material/check_circle:", color="green")
        for name, count in counts.items():
            if count:
                st.badge(
                    f"{count} {'model' if count == 1 else 'models'} {name}", color=_colour(name)
                )
    st.space("xsmall")


def show_error(error: ServiceError) -> None:
    """Show what happened and what to do; never a traceback."""
    shown = message(error)
    if shown.level == "warning":
        st.warning(shown.markdown(), icon=":material/hourglass_top:")
    else:
        st.error(shown.markdown(), icon=":material/error:")


def show_settings_error(error: SettingsError) -> None:
    """Show which variable is wrong and what it should be."""
    st.error(
        f"**The page is not set up**\n\n{escaped(str(error))}\n\n"
        "Correct the variable and restart the page.",
        icon=":material/settings_alert:",
    )


def check_again(client: ServiceClient) -> None:
    """Poll the service every few seconds and redraw the whole page once it is ready."""

    @st.fragment(run_every=CHECK_AGAIN_S)
    def poll() -> None:
        st.button("Check again now", icon=":material/refresh:", on_click=lambda: None)
        try:
            # What the page asks for: a service that is ready may still refuse its key.
            client.readiness()
            client.models()
        except ServiceError:
            return
        st.rerun()

    poll()


def choose_image() -> InputImage:
    """The visitor's upload, or a sample; the last choice counts."""
    state = st.session_state
    state.setdefault("sample", SAMPLES[0].name)
    state.setdefault("uploader", 0)
    left, right = st.columns([5, 8], gap="large")
    with left:
        uploaded = st.file_uploader(
            "Drop a picture here",
            type=FILE_TYPES,
            # A new key empties the uploader when the visitor chooses a sample.
            key=f"upload-{state['uploader']}",
        )
    with right:
        st.markdown(":small[Or take a sample]")
        with st.container(horizontal=True, gap="small"):
            for sample in SAMPLES:
                _sample_button(sample, chosen=uploaded is None and sample.name == state["sample"])
    if uploaded is not None:
        alt = f"Uploaded picture {uploaded.name}"
        return InputImage(uploaded.name, uploaded.getvalue(), alt, is_sample=False)
    sample = next(sample for sample in SAMPLES if sample.name == state["sample"])
    return InputImage(sample.file, sample.read(), sample.alt, is_sample=True)


def _sample_button(sample: Sample, *, chosen: bool) -> None:
    with st.container(width=88, gap="xsmall"):
        thumbnail = _preview(sample.file, sample.read())
        if thumbnail is not None:
            st.image(thumbnail, width=88, alt=sample.alt)
        st.button(
            sample.name,
            key=f"sample-{sample.name}",
            type="primary" if chosen else "secondary",
            width="stretch",
            on_click=_take_sample,
            args=(sample.name,),
        )


def _take_sample(name: str) -> None:
    st.session_state["sample"] = name
    st.session_state["uploader"] += 1


def show_image(image: InputImage, read: ImageRead | None) -> None:
    """The image with its facts; `read` is None if no model has read it."""
    name = escaped(image.name)
    if read is None and not image.is_sample:
        size = file_size(len(image.data))
        st.caption(f"{name} · {size}. It is shown here once the service has accepted it.")
        return
    copy = _preview(image.digest, image.data)
    if copy is None:
        st.info(
            "This picture cannot be drawn here. The predictions are not affected.",
            icon=":material/hide_image:",
        )
    else:
        st.image(copy, width="stretch", alt=image.alt)
    if read is not None:
        lines = [f"**{name}**", escaped(stored_as(image, read))]
        if read.operations:
            steps = ", ".join(operation_text(operation) for operation in read.operations)
            lines.append(f"Read as: {escaped(steps)}")
        st.caption("  \n".join(lines))


def no_model_ready() -> None:
    """The service is ready, but each of its models is loading, restarting or refused."""
    st.warning(
        "No model is ready. The list at the end of the page says why.",
        icon=":material/hourglass_empty:",
    )


def all_models(model_list: ModelList) -> None:
    """All models of the service, ready or not, with the reason if not."""
    with st.expander(f"All models of the service ({len(model_list.models)})"):
        for model in model_list.models:
            default = " · default" if model.name == model_list.default else ""
            st.markdown(
                f"**{escaped(model.key)}** :{_colour(model.state)}-badge[{model.state}]{default}"
            )
            st.caption(described(model) + (f"  \n{escaped(model.reason)}" if model.reason else ""))


def described(model: ModelSummary) -> str:
    """Framework, architecture, accuracy, runtime and device of a model in one line of Markdown."""
    accuracy = model.accuracy
    parts = [
        FRAMEWORKS.get(model.framework or "", model.framework),
        model.architecture,
        None if accuracy is None else f"{accuracy * 100:.2f} % test accuracy",
        " ".join(part for part in (model.runtime, model.precision) if part),
        f"on {model.device}" if model.device else None,
    ]
    return " · ".join(escaped(part) for part in parts if part)


def _colour(state: str) -> Any:
    return STATE_COLOURS[state]


@st.cache_data(max_entries=32, show_spinner=False)
def _preview(key: str, _data: bytes) -> bytes | None:  # noqa: ARG001 - Streamlit's cache key
    # Hashing 20 MB again on every redraw would be noticeable.
    return preview.preview(_data)
