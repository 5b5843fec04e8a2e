"""Keras on TensorFlow: networks, trainer, weights, devices."""
