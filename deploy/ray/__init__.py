"""The service and its models on a Ray cluster."""
