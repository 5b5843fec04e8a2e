"""A new version and new processes under load, without a failed request."""
