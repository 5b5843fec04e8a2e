"""The web page: a Streamlit app that knows the service only by its URL."""
