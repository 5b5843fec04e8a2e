"""A folder of images to training batches."""
