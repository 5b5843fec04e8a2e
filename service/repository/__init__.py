"""The model repository: which versions are loaded from it, and which one serves a request."""
