"""The page; `main` is its table of contents.

streamlit run frontend/app.py
"""

from __future__ import annotations

import os

import streamlit as st

from frontend import compare, single, views
from frontend.client import ServiceClient, ServiceError, open_session
from frontend.responses import ModelList
from frontend.settings import Settings, SettingsError


def main(client: ServiceClient | None = None) -> None:
    """Draw the page once, top to bottom, as Streamlit does after every action of the visitor.

    Args:
        client: of the service; None makes one from SERVICE_URL.
    """
    views.configure()
    with views.sheet():
        views.title()
        client = client or _client_or_stop()
        model_list = _model_list_or_stop(client)
        views.state(model_list)
        image = views.choose_image()
        left, right = views.columns()
        with right:
            one, several = views.tabs()
            if one.open:
                with one:
                    read = single.one_model(client, model_list, image)
            else:
                with several:
                    read = compare.all_models(client, model_list, image)
        # Drawn last, because it shows how the service read the image.
        with left:
            views.show_image(image, read)
        views.all_models(model_list)


def _client_or_stop() -> ServiceClient:
    try:
        settings = Settings.from_environment(os.environ)
    except SettingsError as exc:
        views.show_settings_error(exc)
        st.stop()
    return _connect(settings.service_url, settings.api_key, settings.ca_bundle)


@st.cache_resource
def _connect(url: str, api_key: str | None, ca_bundle: str | None) -> ServiceClient:
    # One connection pool for all visitors.
    return ServiceClient(open_session(url, api_key, ca_bundle), url)


def _model_list_or_stop(client: ServiceClient) -> ModelList:
    try:
        client.readiness()
        return client.models()
    except ServiceError as exc:
        views.show_error(exc)
        views.check_again(client)
        st.stop()


if __name__ == "__main__":
    main()
