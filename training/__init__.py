"""Training: from a folder of images to a bundle, in PyTorch or Keras."""
