"""An artifact measured on labelled images: accuracy, calibration, golden samples."""
