"""Loaded models: the registry, their processes, dynamic batching."""
