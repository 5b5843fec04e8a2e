"""The page. `main` is its table of contents; what each part looks like is in `views.py` and `compare.py`.

streamlit run frontend/app.py
"""

from __future__ import annotations

import os

import streamlit as st

from frontend import compare, views
from frontend.answers import Catalogue
from frontend.client import ServiceClient, ServiceError, open_session
from frontend.settings import Settings, SettingsError


def main(client: ServiceClient | None = None) -> None:
    """Draw the page once, top to bottom, as Streamlit does after every action of the visitor.

    Args:
        client: asks the service; None makes one from SERVICE_URL.
    """
    views.configure()
    with views.sheet():
        views.title()
        client = client or _client_or_stop()
        catalogue = _catalogue_or_stop(client)
        views.state(catalogue)
        picture = views.choose_picture()
        left, right = views.columns()
        with right:
            one, several = views.tabs()
            if one.open:
                with one:
                    image = views.one_model(client, catalogue, picture)
            else:
                with several:
                    image = compare.all_models(client, catalogue, picture)
        # Drawn last, for it shows how the service read the picture.
        with left:
            views.show_picture(picture, image)
        views.holdings(catalogue)


def _client_or_stop() -> ServiceClient:
    try:
        settings = Settings.from_environment(os.environ)
    except SettingsError as exc:
        views.show_settings_error(exc)
        st.stop()
    return _connect(settings.service_url)


@st.cache_resource
def _connect(url: str) -> ServiceClient:
    # One pool of connections for all visitors.
    return ServiceClient(open_session(url), url)


def _catalogue_or_stop(client: ServiceClient) -> Catalogue:
    try:
        client.readiness()
        return client.models()
    except ServiceError as exc:
        views.show_error(exc)
        views.look_again(client)
        st.stop()


if __name__ == "__main__":
    main()
