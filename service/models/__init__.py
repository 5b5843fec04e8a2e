"""Loaded models: the registry, one process per version, dynamic batching."""
