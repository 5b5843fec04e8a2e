"""The parts of the page: each function draws one, and asks the client where it needs an answer."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.elements.lib.mutable_tab_container import TabContainer

from frontend import charts, preview
from frontend.answers import Catalogue, Guess, ImageRead, ServedModel
from frontend.client import Asked, ServiceClient, ServiceError
from frontend.messages import escaped, message
from frontend.picture import Picture, done, facts, size
from frontend.samples import FOLDER, SAMPLES, Sample
from frontend.settings import SettingsError

FILE_TYPES = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"]
FRAMEWORKS = {"pytorch": "PyTorch", "tensorflow": "Keras / TensorFlow"}
STATE_COLOURS = {"ready": "green", "loading": "orange", "restarting": "orange", "refused": "red"}
INK = {"light": "#1d2430", "dark": "#e8ebf0"}  # text colours of .streamlit/config.toml
ANSWERS = 5  # how many labels are asked for at first
LOOK_AGAIN_S = 4.0
REMEMBERED = 16  # answers kept per visitor


def configure() -> None:
    """Set the page's name, icon and width. Streamlit wants this first."""
    st.set_page_config(
        page_title="What is in this picture?",
        page_icon=str(FOLDER / SAMPLES[0].file),
        layout="wide",
    )


def sheet() -> DeltaGenerator:
    """The column of text that holds everything: readable on a wide screen, full width on a phone."""
    return st.container(horizontal_alignment="center").container(width=1120)


def title() -> None:
    """The heading, and one sentence about what answers."""
    st.title("What is in this picture?", anchor=False)
    st.markdown(
        "Residual networks trained by this project in PyTorch and in Keras, asked through one HTTP service."
    )


def columns() -> tuple[DeltaGenerator, DeltaGenerator]:
    """The picture on the left and the answers on the right; one under the other on a phone."""
    left, right = st.columns([5, 8], gap="large")
    return left, right


def tabs() -> tuple[TabContainer, TabContainer]:
    """One model, or all of them. Only the open tab is run, so only what is looked at is asked for."""
    one, several = st.tabs(["One model", "Compare models"], on_change="rerun", key="view")
    return one, several


def state(catalogue: Catalogue) -> None:
    """One line: the service answers, and how many of its models do."""
    counts = {
        name: sum(model.state == name for model in catalogue.models) for name in STATE_COLOURS
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
    """Say what happened and what to do; never a traceback."""
    said = message(error)
    if said.level == "warning":
        st.warning(said.markdown(), icon=":material/hourglass_top:")
    else:
        st.error(said.markdown(), icon=":material/error:")


def show_settings_error(error: SettingsError) -> None:
    """Say which variable is wrong and what it should be."""
    st.error(
        f"**The page is not set up**\n\n{escaped(str(error))}\n\nCorrect the variable and start the page again.",
        icon=":material/settings_alert:",
    )


def look_again(client: ServiceClient) -> None:
    """Look for the service every few seconds and draw the whole page once it is ready."""

    @st.fragment(run_every=LOOK_AGAIN_S)
    def look() -> None:
        st.button("Look again now", icon=":material/refresh:", on_click=lambda: None)
        try:
            client.readiness()
        except ServiceError:
            return
        st.rerun()

    look()


def choose_picture() -> Picture:
    """A file of the visitor's, or one of ours; what was chosen last counts."""
    memory = st.session_state
    memory.setdefault("sample", SAMPLES[0].name)
    memory.setdefault("uploader", 0)
    left, right = st.columns([5, 8], gap="large")
    with left:
        uploaded = st.file_uploader(
            "Drop a picture here",
            type=FILE_TYPES,
            # A new key empties the uploader when the visitor goes on to a sample.
            key=f"upload-{memory['uploader']}",
        )
    with right:
        st.markdown(":small[Or take a sample]")
        with st.container(horizontal=True, gap="small"):
            for sample in SAMPLES:
                _sample_button(sample, chosen=uploaded is None and sample.name == memory["sample"])
    if uploaded is not None:
        return Picture(
            uploaded.name, uploaded.getvalue(), f"Uploaded picture {uploaded.name}", ours=False
        )
    sample = next(sample for sample in SAMPLES if sample.name == memory["sample"])
    return Picture(sample.file, sample.read(), sample.shows, ours=True)


def _sample_button(sample: Sample, *, chosen: bool) -> None:
    with st.container(width=88, gap="xsmall"):
        thumbnail = _preview(sample.file, sample.read())
        if thumbnail is not None:
            st.image(thumbnail, width=88, alt=sample.shows)
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


def show_picture(picture: Picture, image: ImageRead | None) -> None:
    """The picture with its facts; `image` is None where no model has read it."""
    name = escaped(picture.name)
    if image is None and not picture.ours:
        st.caption(
            f"{name} · {size(len(picture.data))}. It is shown here once the service has accepted it."
        )
        return
    copy = _preview(picture.digest, picture.data)
    if copy is None:
        st.info(
            "This picture cannot be drawn here. The answers stand all the same.",
            icon=":material/hide_image:",
        )
    else:
        st.image(copy, width="stretch", alt=picture.shows)
    if image is not None:
        lines = [f"**{name}**", escaped(facts(picture, image))]
        if image.operations:
            lines.append(
                "Read as: " + escaped(", ".join(done(operation) for operation in image.operations))
            )
        st.caption("  \n".join(lines))


def one_model(client: ServiceClient, catalogue: Catalogue, picture: Picture) -> ImageRead | None:
    """Choose a model, ask it, draw its answer. Returns how it read the picture, or None."""
    if not catalogue.ready:
        no_model_ready()
        return None
    model, top_k = _choose_model(catalogue.ready)
    st.caption(described(model))
    try:
        with st.spinner("Asking the model"):
            asked = ask(client, picture, model, top_k)
    except ServiceError as exc:
        show_error(exc)
        st.button("Try again", icon=":material/refresh:")
        return None
    best = asked.prediction.predictions[0]
    st.markdown(f"### {escaped(best.label)} · {charts.percent(best.score)}")
    scores(asked.prediction.predictions, model)
    with st.expander("As a table"):
        st.table(table(asked.prediction.predictions), hide_index=True, border="horizontal")
    latency(asked)
    return asked.prediction.image


def no_model_ready() -> None:
    """The service answers, but every model in it is loading, restarting or refused."""
    st.warning(
        "No model is ready. The list at the end of the page says why.",
        icon=":material/hourglass_empty:",
    )


def _choose_model(models: Sequence[ServedModel]) -> tuple[ServedModel, int]:
    by_key = {model.key: model for model in models}
    wide, narrow = st.columns([3, 1])
    with wide:
        model = by_key[st.selectbox("Model", list(by_key))]
    with narrow:
        most = model.classes or ANSWERS
        top_k = st.number_input(
            "Answers", min_value=1, max_value=most, value=min(ANSWERS, most), step=1
        )
    return model, int(top_k)


def described(model: ServedModel) -> str:
    """Framework, architecture, accuracy, runtime and device of a model in one line of Markdown."""
    parts = [
        FRAMEWORKS.get(model.framework or "", model.framework),
        model.architecture,
        f"{model.accuracy:.2%} test accuracy".replace("%", " %")
        if model.accuracy is not None
        else None,
        " ".join(part for part in (model.runtime, model.precision) if part),
        f"on {model.device}" if model.device else None,
    ]
    return " · ".join(escaped(part) for part in parts if part)


def ask(client: ServiceClient, picture: Picture, model: ServedModel, top_k: int) -> Asked:
    """Ask once per picture, model and number of answers; Streamlit redraws far more often than that.

    Raises:
        ServiceError: as the client does; a failure is not remembered.
    """
    remembered: MutableMapping[tuple[str, str, int], Asked] = st.session_state.setdefault(
        "answers", {}
    )
    key = (picture.digest, model.key, top_k)
    if key not in remembered:
        asked = client.predict(picture.data, model=model.name, version=model.version, top_k=top_k)
        while len(remembered) >= REMEMBERED:
            del remembered[next(iter(remembered))]
        remembered[key] = asked
    return remembered[key]


def scores(guesses: Sequence[Guess], model: ServedModel) -> None:
    """The bar chart, with its content in words for those who do not see it."""
    st.altair_chart(
        charts.score_chart(guesses, INK["dark" if st.context.theme.type == "dark" else "light"]),
        width="stretch",
        alt=f"Bar chart of the best labels of {model.key}: {charts.describe(guesses)}",
    )


def table(guesses: Sequence[Guess]) -> list[dict[str, Any]]:
    """The same answers as rows, with more digits."""
    return [
        {
            "Rank": guess.rank,
            "Label": guess.label,
            "Confidence": charts.percent(guess.score),
            "Score": f"{guess.score:.6f}",
        }
        for guess in guesses
    ]


def latency(asked: Asked) -> None:
    """Where the time went: inside the service step by step, and the wait as this page saw it."""
    timing = asked.prediction.timing_ms
    steps = {
        "Decode": timing.decode,
        "Queue": timing.queue,
        "Inference": timing.inference,
        "Service": timing.total,
    }
    st.markdown("**Time**")
    with st.container(horizontal=True, gap="medium"):
        for step, spent in {**steps, "Round trip": asked.round_trip_ms}.items():
            st.metric(step, charts.milliseconds(spent), width="content")
    st.caption(
        "Service is the whole time inside it, from the head of the request to the answer, so that a slow upload "
        "counts; the round trip is what "
        f"this page waited. Request {escaped(asked.prediction.request_id)}"
    )


def holdings(catalogue: Catalogue) -> None:
    """Every model that the service holds, ready or not, with the reason where it is not."""
    with st.expander(f"All models of the service ({len(catalogue.models)})"):
        for model in catalogue.models:
            default = " · default" if model.name == catalogue.default else ""
            st.markdown(
                f"**{escaped(model.key)}** :{_colour(model.state)}-badge[{model.state}]{default}"
            )
            st.caption(described(model) + (f"  \n{escaped(model.reason)}" if model.reason else ""))


def _colour(state: str) -> Any:
    return STATE_COLOURS[state]


@st.cache_data(max_entries=32, show_spinner=False)
def _preview(key: str, _data: bytes) -> bytes | None:  # noqa: ARG001  `key` is what Streamlit caches by
    # Hashing 20 MB again on every redraw would be felt.
    return preview.preview(_data)
