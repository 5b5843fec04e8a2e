"""A bundle to a faster bundle: convert to OpenVINO, quantize, measure, write."""
