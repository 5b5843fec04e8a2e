"""PyTorch: networks, trainer, weights, devices."""
