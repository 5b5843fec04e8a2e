"""The page; `main` is its table of contents.

streamlit run frontend/app.py
"""

from __future__ import annotations

import html
import os
from collections.abc import Callable
from functools import partial

import streamlit as st

from frontend import tracing
from frontend.choice import option, set_option
from frontend.client import ServiceClient, open_session
from frontend.components import corner
from frontend.samples import FOLDER
from frontend.settings import Settings, SettingsError
from frontend.views import classify, compare, many, models, status
from frontend.visit import Visit, open_visit
from frontend.words import LANGUAGES, Words, words

# On a phone: links of the closed menu are no stops of the Tab key, and what has the focus is
# neither below the header nor below the bar of buttons.
PHONE = """<style>
[data-testid=stSidebar][data-collapsed=true] { visibility: hidden; }
@media (max-width: 46rem) { [data-testid=stMain] { scroll-padding-block: 4.25rem 5rem; } }
</style>"""


def main(client: ServiceClient | None = None) -> None:
    """Draw the page once, top to bottom, as Streamlit does after every action of the visitor.

    Args:
        client: of the service; None makes one from SERVICE_URL.
    """
    language = words(option("lang", st.context.locale or "en"))
    st.set_page_config(
        page_title=language("What is in this picture?"),
        page_icon=str(FOLDER / "tabby-cat.jpg"),
        layout="wide",
    )
    st.html(PHONE)
    st.logo(_title(language("What is in this picture?")), size="large")
    settings = _settings_or_stop(language)
    client = client or _connect(settings.service_url, settings.api_key, settings.ca_bundle)
    visit = open_visit(
        client, language, settings.public_url, needs_key=settings.api_key is not None
    )
    views: list[tuple[str, str, Callable[[Visit], None]]] = [
        ("", language("Classify"), classify.draw),
        ("compare", language("Compare"), compare.draw),
        ("many", language("Many pictures"), many.draw),
        ("models", language("Models"), models.draw),
        ("status", language("Status"), status.draw),
    ]
    pages = [
        st.Page(partial(draw, visit), title=title, url_path=path or "classify", default=not path)
        for path, title, draw in views
    ]
    # For a view that opens another one.
    st.session_state["pages"] = pages
    page = st.navigation(pages, position="top")
    with st.container(horizontal_alignment="center").container(width=1180):
        page.run()
        _corner(visit)


def _title(text: str) -> str:
    """The page's name as a picture: Streamlit's header takes no text."""
    colour = "#e8ebf0" if st.context.theme.type == "dark" else "#10151d"
    width = 8.4 * len(text)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="32" role="img">'
        '<text x="0" y="22" font-family="Source Sans, sans-serif" font-size="17" '
        f'font-weight="700" fill="{colour}" textLength="{width - 4}">{html.escape(text)}</text>'
        "</svg>"
    )


def _corner(visit: Visit) -> None:
    trouble = visit.trouble()
    corner(
        "corner",
        {
            "ready": trouble is None,
            "text": visit.words("ready") if trouble is None else trouble.title,
            "language": visit.words.language,
            "languages": LANGUAGES,
            "label": visit.words("Language"),
        },
        language=partial(set_option, "lang"),
        back=lambda _: None,
    )


def _settings_or_stop(language: Words) -> Settings:
    try:
        return Settings.from_environment(os.environ)
    except SettingsError as exc:
        st.error(f"**{language('The page is not set up')}**")
        # For the operator who is setting it up, in the words of the documentation.
        st.code(str(exc), language=None, wrap_lines=True)
        st.stop()


@st.cache_resource
def _connect(url: str, api_key: str | None, ca_bundle: str | None) -> ServiceClient:
    # One connection pool for all visitors.
    session = open_session(
        url, tracing.new_session(os.environ), api_key=api_key, ca_bundle=ca_bundle
    )
    return ServiceClient(session, url)


if __name__ == "__main__":
    main()
