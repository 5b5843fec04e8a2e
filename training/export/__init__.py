"""A trained network to a bundle: calibrate, export, evaluate, pick golden samples."""
