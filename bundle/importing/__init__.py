"""A model that another program made becomes a bundle: `python -m bundle import FILE_OR_FOLDER`."""
