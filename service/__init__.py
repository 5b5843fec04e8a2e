"""The HTTP service: a model repository behind one API. Loads no deep learning framework."""
